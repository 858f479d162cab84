"""An instance of an APP: what it shall be, and the one word people see for how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.domain.command import Job, JobState, Origin
from agent.domain.container import ContainerState, Health, RunState


class Wanted(StrEnum):
    """What an instance shall be. `absent` removes it, `purged` its volumes too."""

    RUNNING = "running"
    STOPPED = "stopped"
    ABSENT = "absent"
    PURGED = "purged"


class Trial(StrEnum):
    """Whether the wanted release has proved itself. While `verifying`, the old containers are kept, stopped."""

    PROVEN = "proven"
    VERIFYING = "verifying"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of values: what the cloud, or the site, sets above the release's defaults."""

    values: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    ports: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A release with the values it ran with: what an upgrade replaces and a roll-back restores, as a whole.

    `folder` holds the release's own files on the gateway's disk; "" where it came without any. `beside` is the digest
    of what is in it, "" where nobody knows: a release in which no service mounts any may lie in one folder or another.
    """

    release: str
    cloud: Layer = field(default_factory=Layer)
    site: Layer = field(default_factory=Layer)
    folder: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Desired:
    """One instance as it shall be. `current` is None until its images are here; `history` is what to go back to.

    `history` holds versions that ran before, newest first; while `trial` is verifying, its first is the proven one.
    `hold` says in words why it is stopped although nobody removed it; `job` is the deployment under way. `snapshot` is
    the key under which the volumes' data from before the trial are kept, `restore` the key of data still to be brought
    back (""  for none); `windows` counts how often the health gate began to watch the trial.
    """

    name: str
    owner: Origin
    wanted: Wanted
    current: Version | None = None
    history: tuple[Version, ...] = ()
    trial: Trial = Trial.PROVEN
    hold: str = ""
    job: str = ""
    snapshot: str = ""
    restore: str = ""
    windows: int = 0

    @property
    def previous(self) -> Version | None:
        """The version to go back to."""
        return self.history[0] if self.history else None

    @property
    def on_trial(self) -> bool:
        """A version that was stopped before its verdict stays unproven, and is watched again once it shall run."""
        return self.trial is Trial.VERIFYING and self.wanted is Wanted.RUNNING

    @property
    def versions(self) -> tuple[Version, ...]:
        """All versions it has: the wanted one first, then those to go back to. Their images stay."""
        return (*((self.current,) if self.current else ()), *self.history)


class Phase(StrEnum):
    """How an instance is, in one word; the words on the wire."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    VERIFYING = "verifying"
    RUNNING = "running"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    CRASH_LOOP = "crash_loop"
    STOPPING = "stopping"
    STOPPED = "stopped"
    HELD = "held"
    FAILED = "failed"
    REMOVING = "removing"


_JOB_PHASE: Mapping[JobState, Phase] = {
    JobState.WAITING: Phase.WAITING,
    JobState.DOWNLOADING: Phase.DOWNLOADING,
    JobState.CREDENTIALS_NEEDED: Phase.DOWNLOADING,
    JobState.INSTALLING: Phase.INSTALLING,
    JobState.VERIFYING: Phase.VERIFYING,
}


def phase(desired: Desired, job: Job | None, containers: tuple[ContainerState, ...], looping: bool) -> Phase:
    """The word for an instance, from what is wanted, the job under way and what the engine reports."""
    if desired.wanted in (Wanted.ABSENT, Wanted.PURGED):
        return Phase.REMOVING
    if desired.current is None:
        return _JOB_PHASE.get(job.state, Phase.FAILED) if job else Phase.FAILED
    if desired.trial is Trial.VERIFYING and desired.wanted is Wanted.RUNNING:
        return Phase.VERIFYING
    serving = [c for c in containers if c.serving]
    ended = [c for c in containers if c.ended_well]
    if desired.wanted is Wanted.STOPPED:
        if serving:
            return Phase.STOPPING
        return Phase.HELD if desired.hold else Phase.STOPPED
    if looping:
        return Phase.CRASH_LOOP
    if not (serving or ended) or any(c.state is not RunState.RUNNING for c in serving):
        return Phase.STARTING
    if any(c.health is Health.UNHEALTHY for c in serving):
        return Phase.UNHEALTHY
    return Phase.RUNNING
