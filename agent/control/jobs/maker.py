"""How commands begin jobs: with their times, their logins kept apart, and what they wait for in words."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent.control.jobs.timetable import Timetable
from agent.control.jobs.vault import Vault
from agent.control.ledger import Ledger
from agent.domain.command import Command, Job, JobState, Reply
from agent.domain.journal import Change
from agent.domain.params import Login as LoginParams
from agent.domain.params import Params
from agent.ports import Login

MOST_WAITING = 64
"""Open jobs of one instance: beyond them, what would only wait is refused."""
REGISTRIES = "credentials"
"""Under this key a job's parameters name the registries it had a login for, and nothing more."""

NO_TIME = {"instance", "at", "deadline_s", "credentials"}
"""What of a command's parameters is no parameter of its work."""

Logins = Mapping[str, LoginParams]


class JobMaker:
    """Makes jobs, not yet written. Of what a command gives, the times become fields and the logins go to the vault."""

    def __init__(self, ledger: Ledger, timetable: Timetable, vault: Vault) -> None:
        self._ledger = ledger
        self._timetable = timetable
        self._vault = vault

    def make(self, command: Command, kind: str, params: Params, given: Mapping[str, Any]) -> Job:
        """The job that `command` begins, to be written with the command's reply. `given` is what its work needs."""
        logins: Logins = getattr(params, "credentials", {})
        job = Job(
            id=uuid.uuid4().hex[:12],
            kind=kind,
            instance=getattr(params, "instance", ""),
            command_id=command.id,
            state=JobState.WAITING,
            created_ms=self._timetable.now_ms(),
            params={**given, REGISTRIES: sorted(logins)} if logins else dict(given),
            origin=command.origin,
        )
        return self._timetable.order(job, getattr(params, "at", None), getattr(params, "deadline_s", None))

    def held(self, job: Job) -> Job | None:
        """The job as it waits for its time, saying until when and why; None when it may run now."""
        wait = self._timetable.wait(job)
        return replace(job, state=JobState.WAITING, message=wait.why, until_ms=wait.until_ms) if wait else None

    def keep_logins(self, job: Job, logins: Logins, query: str = "") -> None:
        """Hold a job's logins, and the query of its signed URL, in memory until it is over."""
        open_now = {each.id for each in self._ledger.jobs.values() if not each.state.final}
        plain = {name: Login(each.username, each.password.get_secret_value()) for name, each in logins.items()}
        self._vault.keep(job.id, plain, query, open_now)

    def take_up(
        self, command: Command, job: Job, candidates: Iterable[Job], logins: Logins, query: str = ""
    ) -> tuple[Change, Reply] | None:
        """The job among `candidates` that lost what it brought and that `job`, with it anew, would only repeat: it goes on."""
        for waiting in candidates:
            lost = waiting.state is JobState.CREDENTIALS_NEEDED and bool(logins or query)
            if lost and waiting.kind == job.kind and _what(waiting) == _what(job):
                self.keep_logins(waiting, logins, query)
                again = replace(waiting, state=JobState.WAITING, message="the credentials are here again")
                return Change(jobs=(again,)), accepted(command, again)
        return None


def accepted(command: Command, job: Job) -> Reply:
    """The reply to a command whose job follows."""
    waits = f"; it waits {job.message}" if job.until_ms or job.message else ""
    return Reply(command.id, 202, f"job {job.id} follows{waits}", job=job.id)


def _what(job: Job) -> dict[str, Any]:
    return {key: value for key, value in job.params.items() if key != REGISTRIES}
