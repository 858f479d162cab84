"""Runs jobs: durable work that a command started. Each kind has one coroutine; a killed agent starts it again.

The job's row is on disk before the command was answered. What a job does until its end is safe to do twice. Jobs of one
instance work one at a time, in the order of their times; some of different instances work side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from agent.control.jobs.maker import REGISTRIES
from agent.control.jobs.timetable import Timetable
from agent.control.jobs.vault import Vault
from agent.control.ledger import Ledger
from agent.domain.command import Job, JobState
from agent.domain.journal import Change
from agent.errors import GatewayError, Unauthorised

log = logging.getLogger("agent.control.jobs.runner")


@dataclass(frozen=True, slots=True)
class Note:
    """How far a job is: percent, words for people, and bytes where bytes travel (0: not known)."""

    progress: int
    message: str
    done_bytes: int = 0
    total_bytes: int = 0


class Told(Protocol):
    """Called by work with how far it is, as often as it likes."""

    def __call__(self, progress: int, message: str, done_bytes: int = 0, total_bytes: int = 0) -> None: ...


Work = Callable[[Job, Told], Awaitable[None]]
Enter = Callable[[Job], Change | None]
"""What a job of an instance changes when its time has come; None while it is not its turn."""

AT_ONCE = 3
RETRY_FIRST_S = 1.0
RETRY_LAST_S = 60.0
LOOK_S = 1.0
WRITE_EVERY_S = 5.0
"""Progress is in memory at once, and on disk and on its way to the cloud this often: flash wears."""
WAKE_S = 30.0
RESUMABLE = (JobState.WAITING, JobState.DOWNLOADING)


class JobRunner:
    """`kinds` maps a job's kind to its work. Jobs past downloading belong to the reconciler.

    `notes` is how far each job under way is.
    """

    def __init__(
        self, ledger: Ledger, kinds: Mapping[str, Work], timetable: Timetable, vault: Vault, enter: Enter
    ) -> None:
        self._ledger = ledger
        self._kinds = kinds
        self._timetable = timetable
        self._vault = vault
        self._enter = enter
        self.notes: dict[str, Note] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._lanes: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._stopped = False
        ledger.listen(self._on_change)

    def resume(self) -> None:
        """Take up what an earlier agent left open."""
        for job in list(self._ledger.jobs.values()):
            if job.state in RESUMABLE:
                self._start(job)

    async def stop(self) -> None:
        """Stop all work; it goes on at the next start."""
        self._stopped = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Have all that wait look at the clock again."""
        for wake in self._wakes.values():
            wake.set()

    def _on_change(self, change: Change) -> None:
        ended = {job.instance for job in change.jobs if job.state.final}
        for job in change.jobs:
            running = self._tasks.get(job.id)
            if job.state is JobState.WAITING:
                self._start(job) if running is None else self._wake(job.id)
            elif job.state.final:
                self._vault.forget(job.id)
                if job.state is not JobState.DONE and running is not None:
                    running.cancel()
        for job_id in [id_ for id_ in self._wakes if self._ledger.jobs[id_].instance in ended]:
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        if job_id in self._wakes:
            self._wakes[job_id].set()

    def _start(self, job: Job) -> None:
        if job.id in self._tasks:
            return
        task = asyncio.create_task(self._run(job.id), name=f"job-{job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._ended(job.id))

    def _ended(self, job_id: str) -> None:
        self._tasks.pop(job_id, None)
        self.notes.pop(job_id, None)
        if self._ledger.jobs[job_id].state is JobState.WAITING and not self._stopped:
            self._start(self._ledger.jobs[job_id])  # its credentials came while it was giving up

    async def _run(self, job_id: str) -> None:
        attempt = 0
        lane = self._lanes.setdefault(self._ledger.jobs[job_id].instance or job_id, asyncio.Lock())
        while True:
            try:
                if not await self._turn(job_id):
                    return
                # Only work takes room: jobs that wait for a dead registry must not keep others from a living one.
                async with lane, self._room:
                    if await self._work(self._ledger.jobs[job_id]):
                        return
            except GatewayError as error:
                attempt += 1
                if not await self._after(self._ledger.jobs[job_id], error, attempt):
                    return
            except Exception:
                job = self._ledger.jobs[job_id]
                log.exception("job_failed id=%s kind=%s", job.id, job.kind)
                await self._end(job, "the agent failed inside; see its log")
                return

    async def _after(self, job: Job, error: GatewayError, attempt: int) -> bool:
        """What follows an error: another try after a pause (True), waiting for credentials, or the end."""
        if isinstance(error, Unauthorised) and self._lost(job):
            await self._ask(job)
            return False
        if not error.retryable:
            await self._end(job, str(error), error.status)
            return False
        delay = min(RETRY_LAST_S, RETRY_FIRST_S * 2 ** min(attempt, 10)) * (0.75 + 0.5 * random.random())
        message = f"{error}; trying again in {delay:.0f} s (attempt {attempt})"
        log.warning("job_retry id=%s kind=%s code=%s reason=%s", job.id, job.kind, error.code, error)
        with contextlib.suppress(GatewayError):
            await self._ledger.move_job(job.id, JobState.DOWNLOADING, message, cause=str(error))
        await asyncio.sleep(delay)
        return True

    def _lost(self, job: Job) -> list[str]:
        """The registries that the job had a login for, where it went with a restart."""
        return [] if self._vault.holds(job.id) else sorted(job.params.get(REGISTRIES) or ())

    async def _ask(self, job: Job) -> None:
        message = (
            f"the credentials for {', '.join(self._lost(job))} went with the agent's restart: send the command again"
        )
        await _until_written(job.id, partial(self._ledger.move_job, job.id, JobState.CREDENTIALS_NEEDED, message))

    async def _turn(self, job_id: str) -> bool:
        """Wait for the job's time, its window and its turn. False when it has nothing to fetch any more."""
        wake = self._wakes[job_id] = asyncio.Event()
        try:
            while (job := self._ledger.jobs[job_id]).state in RESUMABLE:
                wake.clear()
                wait = self._timetable.wait(job)
                if wait is None and await self._enters(job):
                    return self._ledger.jobs[job_id].state in RESUMABLE and job.kind in self._kinds
                if wait is not None and self._lost(job):
                    # Asked for at once, it can be sent again before the job's own time comes.
                    await self._ask(job)
                    return False
                why, until_ms = (wait.why, wait.until_ms) if wait else ("for another job of this APP", 0)
                await self._let_wait(job, why, until_ms)
                left_s = (until_ms - self._timetable.now_ms()) / 1000 if until_ms else WAKE_S
                # Not `wait_for`: woken and cancelled in one turn of the loop, it would forget that it was cancelled.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(left_s, 0.01), WAKE_S)):
                        await wake.wait()
            return False
        finally:
            del self._wakes[job_id]

    async def _enters(self, job: Job) -> bool:
        if not job.instance or self._holds_turn(job):
            return True
        entered = False

        def decision() -> Change:
            nonlocal entered
            current = self._ledger.jobs[job.id]
            change = Change() if current.state.final else self._enter(current)
            entered = change is not None
            return change or Change()

        await self._ledger.decide(decision)
        return entered

    def _holds_turn(self, job: Job) -> bool:
        desired = self._ledger.desired.get(job.instance)
        return desired is not None and desired.job == job.id

    async def _let_wait(self, job: Job, why: str, until_ms: int) -> None:
        """Write what the job waits for, where that is news, and let others of its instance go first."""

        def decision() -> Change:
            current = self._ledger.jobs[job.id]
            waiting = replace(current, state=JobState.WAITING, message=why, until_ms=until_ms)
            if current.state not in RESUMABLE or waiting == current:
                return Change()
            desired = self._ledger.desired.get(job.instance)
            gives_way = desired is not None and desired.job == job.id and desired.current is not None
            return Change(jobs=(waiting,), desired=(replace(desired, job=""),) if desired and gives_way else ())

        if (job.state, job.message, job.until_ms) != (JobState.WAITING, why, until_ms):
            await self._ledger.decide(decision)

    async def _work(self, job: Job) -> bool:
        """Run the work while passing its progress on. False when the window it needs has closed: it goes on in the next."""
        work = asyncio.ensure_future(self._kinds[job.kind](job, partial(self._note, job.id)))
        written: Note | None = None
        write_at_s = self._timetable.monotonic()
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=LOOK_S)
                if work.done():
                    break
                if self._ledger.jobs[job.id].state in RESUMABLE and self._timetable.wait(job) is not None:
                    return False
                note = self.notes.get(job.id)
                if note is not None and note != written and self._timetable.monotonic() >= write_at_s:
                    written, write_at_s = note, self._timetable.monotonic() + WRITE_EVERY_S
                    await self._write(job.id, note)
            await work
            return True
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    def _note(self, job_id: str, progress: int, message: str, done_bytes: int = 0, total_bytes: int = 0) -> None:
        self.notes[job_id] = Note(progress, message, done_bytes, total_bytes)

    async def _write(self, job_id: str, note: Note) -> None:
        def decision() -> Change:
            job = self._ledger.jobs[job_id]
            if job.state is not JobState.DOWNLOADING:
                return Change()
            told = {"progress": note.progress, "message": note.message}
            sizes = {"done_bytes": note.done_bytes, "total_bytes": note.total_bytes}
            return Change(jobs=(replace(job, **told, **sizes),))  # type: ignore[arg-type]

        try:
            await self._ledger.decide(decision)
        except GatewayError as error:  # a full disk: no reason to end the work itself
            log.warning("job_progress_not_written id=%s code=%s reason=%s", job_id, error.code, error)

    async def _end(self, job: Job, reason: str, status: int = 500) -> None:
        """The job has failed; an instance that never had a version goes with it."""

        def decision() -> Change:
            current = self._ledger.jobs[job.id]
            if current.state.final:
                return Change()
            desired = self._ledger.desired.get(job.instance)
            never_had_one = desired is not None and desired.current is None and desired.job == job.id
            failed = replace(current, state=JobState.FAILED, message=reason, error_status=status)
            return Change(jobs=(failed,), gone=(job.instance,) if never_had_one else ())

        await _until_written(job.id, partial(self._ledger.decide, decision))


async def _until_written(job_id: str, write: Callable[[], Awaitable[object]]) -> None:
    """Have `write` done; where the disk does not take it, again and again: nobody else would look at the job."""
    while True:
        try:
            await write()
            return
        except GatewayError as error:
            log.warning("job_end_not_written id=%s code=%s reason=%s", job_id, error.code, error)
            await asyncio.sleep(RETRY_FIRST_S)
