"""The one writer of desired state: every decision is committed to disk as a whole before anybody acts on it.

The inbox brings commands here; the job runner and the reconciler bring what they found out (images are here, the
health gate has spoken). Readers see the state as of the last commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from agent.domain.app import Desired
from agent.domain.command import Command, Job, JobState, Reply
from agent.domain.journal import (
    BORN_NOW,
    REBUILT,
    SURVEY,
    UNEXPLAINED,
    Change,
    JournaledStep,
    Snapshot,
    StoredRelease,
    StoredRule,
    bring_in,
)
from agent.domain.retention import as_kept, outlived
from agent.errors import NotFound
from agent.ports import Clock

BORN = "born"

SET_BACK_MS = 60_000
"""A clock set back by more was wrong before: then the new time is worth more than the order."""

Listener = Callable[[Change], None]
Decision = Callable[[], Change]


class Journal(Protocol):
    """Where decisions are written."""

    async def load(self) -> Snapshot: ...
    async def commit(self, change: Change, now_ms: int) -> None: ...
    async def reply_to(self, command_id: str) -> Reply | None: ...
    async def mark_told(self, job_id: str, updated_ms: int) -> None: ...
    async def begin_step(self, instance: str, step: str, now_ms: int) -> int: ...
    async def end_step(self, number: int, ended: str) -> None: ...
    async def steps(self, instance: str, from_ms: int, to_ms: int) -> list[JournaledStep]: ...
    async def save_site(self, files: Mapping[str, bytes]) -> None: ...
    async def load_site(self) -> Mapping[str, bytes]: ...


class Ledger:
    """Desired state, releases, jobs and applied rules, in memory as they are on disk."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.journal = journal
        self._clock = clock
        self._lock = asyncio.Lock()
        self._deciding: set[asyncio.Future[Change]] = set()
        self._listeners: list[Listener] = []
        self.desired: dict[str, Desired] = {}
        self.releases: dict[str, StoredRelease] = {}
        self.jobs: dict[str, Job] = {}
        self.rules: dict[str, StoredRule] = {}
        self.meta: dict[str, str] = {}
        self._over: dict[str, None] = {}
        self.untold: dict[str, None] = {}
        """Jobs whose state as it is now is not in the outbox, the one that waits longest first."""

    async def load(self) -> None:
        """Read everything from disk; call once, before anything else."""
        snapshot = await self.journal.load()
        self.desired = {d.name: d for d in snapshot.desired}
        self.releases = {r.hash: r for r in snapshot.releases}
        self.jobs = {j.id: j for j in snapshot.jobs}
        self.rules = {r.name: r for r in snapshot.rules}
        self.meta = dict(snapshot.meta)
        self.untold = dict.fromkeys(snapshot.untold)
        self._over = dict.fromkeys(job.id for job in snapshot.jobs if job.state.final)
        # A state file made just now knows nothing of what already runs: that is no reason to remove it.
        if BORN not in self.meta:
            survey = self.meta.get(SURVEY) or BORN_NOW
            await self.decide(lambda: Change(meta=((BORN, str(self._clock.now_ms())), (SURVEY, survey))))

    @property
    def unsure(self) -> bool:
        """True after the state was made anew, until the engine was looked through: nothing may be changed on it."""
        return self.meta.get(SURVEY) == REBUILT

    def may_remove(self, instance: str) -> bool:
        """Whether containers of an instance that is not desired are leftovers of ours, and not something lost from memory."""
        return not self.meta.get(SURVEY) and not self.meta.get(UNEXPLAINED + instance)

    def listen(self, listener: Listener) -> None:
        """Have `listener` called after every commit, in the loop, with what changed."""
        self._listeners.append(listener)

    def get(self, instance: str) -> Desired:
        """The desired state of an instance, or NotFound."""
        found = self.desired.get(instance)
        if found is None:
            known = ", ".join(sorted(self.desired)) or "none"
            raise NotFound("app.unknown", f"there is no APP instance '{instance}'", hint=f"installed: {known}")
        return found

    def open_job(self, instance: str) -> Job | None:
        """The deployment under way for an instance."""
        desired = self.desired.get(instance)
        job = self.jobs.get(desired.job) if desired and desired.job else None
        return job if job and not job.state.final else None

    def open_jobs(self, instance: str) -> list[Job]:
        """All jobs of an instance that are not over: the one under way and those that wait for their time."""
        return [job for job in self.jobs.values() if job.instance == instance and not job.state.final]

    async def decide(self, decision: Decision, *, answered: tuple[Command, Reply] | None = None) -> Change:
        """Compute a change from the state as it is now, write it, then let everybody see it.

        `decision` must not await; two decisions never overlap. What it raises leaves everything as it was. Who asked may
        be cancelled (a job that another replaces): what goes to the disk still comes to the memory.
        """
        deciding = asyncio.ensure_future(self._decide(decision, answered))
        self._deciding.add(deciding)
        deciding.add_done_callback(self._deciding.discard)
        return await asyncio.shield(deciding)

    async def _decide(self, decision: Decision, answered: tuple[Command, Reply] | None) -> Change:
        async with self._lock:
            change = decision()
            if answered is not None:
                change = replace(change, command=answered[0], reply=answered[1])
            now_ms = self._clock.now_ms()
            change = replace(change, jobs=tuple(as_kept(self._dated(job, now_ms)) for job in change.jobs))
            ended = [job.id for job in change.jobs if job.state.final]
            if ended:
                over = dict.fromkeys([*self._over, *ended])
                change = replace(change, jobs_gone=outlived(over, {*self.untold, *ended}))
            await self.journal.commit(change, now_ms)
            bring_in(change, self)
            for job in change.jobs:
                self.untold.pop(job.id, None)
                self.untold[job.id] = None
            self._over |= dict.fromkeys(ended)
            for id_ in change.jobs_gone:
                self.untold.pop(id_, None)
                self._over.pop(id_, None)
        for listener in self._listeners:
            listener(change)
        return change

    def _dated(self, job: Job, now_ms: int) -> Job:
        """`updated_ms` tells the states of a job apart: it rises, unless the clock was set back by more than a little."""
        before = self.jobs.get(job.id)
        ahead_ms = before.updated_ms - now_ms if before else -1
        return replace(job, updated_ms=now_ms + ahead_ms + 1 if 0 <= ahead_ms < SET_BACK_MS else now_ms)

    async def mark_told(self, job: Job) -> None:
        """The job's state as it is in `job` is in the outbox."""
        await self.journal.mark_told(job.id, job.updated_ms)
        if self.jobs.get(job.id) is job:
            self.untold.pop(job.id, None)

    async def move_job(
        self, job_id: str, state: JobState, message: str = "", progress: int = 0, *, cause: str | None = None
    ) -> None:
        """Set a job's state, unless it is over already. `cause`: why a try of it failed; None: none has just now."""

        def decision() -> Change:
            job = self.jobs[job_id]
            if job.state.final:
                return Change()
            why = job.cause if cause is None else cause
            # What is over has brought all; the last word on its bytes may have come before.
            done_bytes = job.total_bytes if state is JobState.DONE else job.done_bytes
            told = replace(job, state=state, message=message, progress=progress, until_ms=0, cause=why)
            moved = replace(told, done_bytes=done_bytes)
            return Change(jobs=(moved,))

        await self.decide(decision)
