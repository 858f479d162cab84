"""Commands and replies, the same from the cloud, the command line and the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Origin(StrEnum):
    """Where a command came from; also who owns an instance's release."""

    CLOUD = "cloud"
    LOCAL = "local"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Command:
    """`ts_ms` is the sender's epoch ms; `params` is checked by the model of `type`. `who` is for the journal."""

    id: str
    type: str
    params: Mapping[str, Any]
    origin: Origin
    ts_ms: int = 0
    ttl_s: float = 86_400.0
    who: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """`code` as in contract/cloud.md: 200 done, 202 a job follows, 4xx refused, 5xx failed."""

    id: str
    code: int
    msg: str = "ok"
    job: str = ""
    data: Any = None
    ts_ms: int = 0

    @property
    def ok(self) -> bool:
        """True when it was done or accepted."""
        return self.code < 400


class JobState(StrEnum):
    """States of long work; the words on the wire."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    CREDENTIALS_NEEDED = "credentials_needed"

    @property
    def final(self) -> bool:
        """True when nothing more will happen to the job."""
        return self in FINAL


FINAL = frozenset({JobState.DONE, JobState.FAILED, JobState.ROLLED_BACK, JobState.CANCELLED, JobState.SUPERSEDED})


DEPLOYMENTS = frozenset({"install", "upgrade", "configure", "rollback"})
"""Kinds of jobs that bring another version or other values."""
FETCHING = frozenset({JobState.WAITING, JobState.DOWNLOADING, JobState.CREDENTIALS_NEEDED})


@dataclass(frozen=True, slots=True)
class Job:
    """Long work that a command started. `progress` is 0 to 100; times are epoch ms, and 0 is none.

    It runs not before `at_ms`, and waits until `until_ms` where it waits for a time that is known; `at_once` lifts
    both. `deadline_ms` is by the wall clock (0 also where that was wrong); `deadline_s` counts from the command.
    `error_status` is the reply code of the error that it failed by, as the command itself would have been answered.
    `cause` is why its last try failed; "" while none has.
    """

    id: str
    kind: str
    instance: str
    command_id: str
    state: JobState
    message: str = ""
    progress: int = 0
    created_ms: int = 0
    updated_ms: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = Origin.LOCAL
    at_ms: int = 0
    until_ms: int = 0
    at_once: bool = False
    deadline_s: float = 0.0
    deadline_ms: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    error_status: int = 0
    cause: str = ""

    @property
    def fetching(self) -> bool:
        """True while it has changed nothing yet."""
        return self.state in FETCHING
