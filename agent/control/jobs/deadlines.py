"""Ends jobs that are not done in time.

While the agent lives its monotonic clock counts. Over a restart the wall clock does, if it is right; if not, the whole
time counts anew, because a wrong clock must end nothing.
"""

from __future__ import annotations

import asyncio
import logging

from agent.control.jobs.orders import JobOrders
from agent.control.jobs.timetable import Timetable
from agent.control.ledger import Ledger
from agent.domain.command import Job
from agent.domain.journal import Change
from agent.errors import GatewayError

log = logging.getLogger("agent.control.jobs.deadlines")

AGAIN_S = 5.0


class Deadlines:
    """One sleeping task per open job with a deadline."""

    def __init__(self, ledger: Ledger, timetable: Timetable, orders: JobOrders) -> None:
        self._ledger = ledger
        self._timetable = timetable
        self._orders = orders
        self._tasks: dict[str, asyncio.Task[None]] = {}
        ledger.listen(self._on_change)

    def resume(self) -> None:
        """Take up the deadlines of jobs that an earlier agent left open."""
        for job in list(self._ledger.jobs.values()):
            self._see(job)

    async def stop(self) -> None:
        """Let go."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_change(self, change: Change) -> None:
        for job in change.jobs:
            self._see(job)

    def _see(self, job: Job) -> None:
        watching = self._tasks.get(job.id)
        if job.state.final and watching is not None and watching is not asyncio.current_task():
            watching.cancel()
        elif job.deadline_s and not job.state.final and watching is None:
            task = asyncio.create_task(self._watch(job), name=f"deadline-{job.id}")
            self._tasks[job.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _watch(self, job: Job) -> None:
        await asyncio.sleep(max(self._timetable.left_s(job), 0.0))  # by the loop's clock, which is monotonic
        log.warning("job_deadline id=%s kind=%s instance=%s", job.id, job.kind, job.instance)
        while True:
            try:
                await self._ledger.decide(lambda: self._orders.expire(job.id))
                return
            except GatewayError as error:
                log.warning("deadline_not_written id=%s code=%s reason=%s", job.id, error.code, error)
                await asyncio.sleep(AGAIN_S)
