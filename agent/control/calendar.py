"""Calendar work: what is to be done at a time of day. It waits for sane time and is made anew when the clock jumps.

Intervals never come here: the scheduler lists every missed run of an interval after a jump, which can take all memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from agent.ports import Clock

log = logging.getLogger("agent.control.calendar")

LOOK_S = 30.0
JUMP_S = 60.0

Chore = Callable[[], Awaitable[None]]


class Calendar:
    """`chores` maps a cron expression (minute hour day month weekday) to what is done then."""

    def __init__(self, clock: Clock, chores: Mapping[str, Chore], look_s: float = LOOK_S) -> None:
        self._clock = clock
        self._chores = chores
        self._look_s = look_s
        self.rebuilt = 0

    async def run(self) -> None:
        """Do the chores until cancelled."""
        while not self._clock.sane():  # noqa: ASYNC110  (nobody tells when the clock is set right)
            await asyncio.sleep(self._look_s)
        scheduler = await asyncio.to_thread(self._design)
        scheduler.start()
        try:
            offset = self._offset()
            while True:
                await asyncio.sleep(self._look_s)
                if abs(self._offset() - offset) < JUMP_S:
                    continue
                log.warning("clock_jumped by_s=%.0f", self._offset() - offset)
                offset = self._offset()
                scheduler.shutdown(wait=False)
                scheduler = await asyncio.to_thread(self._design)
                scheduler.start()
        finally:
            scheduler.shutdown(wait=False)

    def _offset(self) -> float:
        """Wall clock minus monotonic clock, in seconds: constant unless somebody sets the clock."""
        return self._clock.now_ms() / 1000 - self._clock.monotonic()

    def _design(self) -> AsyncIOScheduler:
        """A schedule that is not started yet; finding the machine's time zone reads its files."""
        scheduler = AsyncIOScheduler()
        for when, chore in self._chores.items():
            trigger = CronTrigger.from_crontab(when)
            scheduler.add_job(chore, trigger, coalesce=True, misfire_grace_time=3600, max_instances=1)
        self.rebuilt += 1
        return scheduler
