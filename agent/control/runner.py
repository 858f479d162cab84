"""Runs jobs: durable work that a command started. Each kind has one coroutine; a killed agent starts it again.

The job's row is on disk before the command was answered. What a job does until its end is safe to do twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.control.ledger import Ledger
from agent.domain.command import Command, Job, JobState, Reply
from agent.domain.journal import Change
from agent.errors import GatewayError

log = logging.getLogger("agent.control.runner")

Work = Callable[[Job, "Told"], Awaitable[None]]
Told = Callable[[int, str], None]
"""Called with progress in percent and a message for people."""

AT_ONCE = 3
RETRY_FIRST_S = 1.0
RETRY_LAST_S = 60.0
TELL_EVERY_S = 1.0
RESUMABLE = (JobState.WAITING, JobState.DOWNLOADING)


class JobRunner:
    """`kinds` maps a job's kind to its work. Jobs past downloading belong to the reconciler."""

    def __init__(self, ledger: Ledger, kinds: Mapping[str, Work]) -> None:
        self._ledger = ledger
        self._kinds = kinds
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        ledger.listen(self._on_change)

    def resume(self) -> None:
        """Take up what an earlier agent left open."""
        for job in list(self._ledger.jobs.values()):
            if job.state in RESUMABLE:
                self._start(job)

    async def stop(self) -> None:
        """Stop all work; it goes on at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_change(self, change: Change) -> None:
        for job in change.jobs:
            running = self._tasks.get(job.id)
            if job.state is JobState.WAITING and running is None:
                self._start(job)
            elif job.state in (JobState.CANCELLED, JobState.SUPERSEDED) and running is not None:
                running.cancel()

    def _start(self, job: Job) -> None:
        if job.kind not in self._kinds or job.id in self._tasks:
            return
        task = asyncio.create_task(self._run(job), name=f"job-{job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _run(self, job: Job) -> None:
        attempt = 0
        while not self._ledger.jobs[job.id].state.final:
            try:
                # Only work takes room: jobs that wait for a dead registry must not keep others from a living one.
                async with self._room:
                    await self._work(job)
                return
            except GatewayError as error:
                if not error.retryable:
                    await self._end(job, str(error))
                    return
                attempt += 1
                delay = min(RETRY_LAST_S, RETRY_FIRST_S * 2 ** min(attempt, 10)) * (0.75 + 0.5 * random.random())
                message = f"{error}; trying again in {delay:.0f} s (attempt {attempt})"
                log.warning("job_retry id=%s kind=%s code=%s reason=%s", job.id, job.kind, error.code, error)
                await self._ledger.move_job(job.id, JobState.DOWNLOADING, message)
                await asyncio.sleep(delay)
            except Exception:
                log.exception("job_failed id=%s kind=%s", job.id, job.kind)
                await self._end(job, "the agent failed inside; see its log")
                return

    async def _work(self, job: Job) -> None:
        """Run the work while passing its progress on, at most once a second and never after its end."""
        latest: list[tuple[int, str]] = []

        def told(progress: int, message: str) -> None:
            latest[:] = [(progress, message)]

        work = asyncio.ensure_future(self._kinds[job.kind](job, told))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=TELL_EVERY_S)
                if latest and not work.done():
                    progress, message = latest.pop()
                    await self._ledger.move_job(job.id, JobState.DOWNLOADING, message, progress)
            await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _end(self, job: Job, reason: str) -> None:
        """The job has failed; an instance that never had a version goes with it."""

        def decision() -> Change:
            current = self._ledger.jobs[job.id]
            if current.state.final:
                return Change()
            desired = self._ledger.desired.get(job.instance)
            never_had_one = desired is not None and desired.current is None and desired.job == job.id
            failed = replace(current, state=JobState.FAILED, message=reason)
            return Change(jobs=(failed,), gone=(job.instance,) if never_had_one else ())

        await self._ledger.decide(decision)


def begin(command: Command, kind: str, instance: str, params: Mapping[str, Any], now_ms: int) -> Job:
    """The job that `command` begins: waiting, and to be written with the command's reply."""
    return Job(
        id=uuid.uuid4().hex[:12],
        kind=kind,
        instance=instance,
        command_id=command.id,
        state=JobState.WAITING,
        created_ms=now_ms,
        params=params,
        origin=command.origin,
    )


def accepted(command: Command, job: Job) -> Reply:
    """The reply to a command whose job follows."""
    return Reply(command.id, 202, f"job {job.id} follows", job=job.id)
