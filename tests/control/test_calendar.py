"""Calendar work waits for sane time, and a jump of the clock makes nothing run late, twice or for ever."""

from __future__ import annotations

import asyncio
import contextlib
import time

from agent.control.calendar import Calendar
from agent.host.clock import SystemClock
from tests.fakes.hand_clock import ShiftedClock

YEAR_S = 365 * 86_400


async def until(calendar: Calendar, rebuilt: int) -> None:
    async with asyncio.timeout(5):
        while calendar.rebuilt < rebuilt:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(calendar: Calendar):  # type: ignore[no-untyped-def]
    task = asyncio.create_task(calendar.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_scheduled_before_the_clock_is_sane() -> None:
    clock = ShiftedClock()
    clock.right = False
    calendar = Calendar(clock, {}, look_s=0.01)
    async with running(calendar):
        await asyncio.sleep(0.1)
        assert calendar.rebuilt == 0
        clock.right = True
        await until(calendar, 1)


async def test_a_jump_of_thirty_years_rebuilds_the_schedule_and_runs_nothing_that_was_missed() -> None:
    clock = ShiftedClock()
    ran: list[int] = []

    async def chore() -> None:
        ran.append(clock.now_ms())

    calendar = Calendar(clock, {"0 0 1 1 *": chore}, look_s=0.01)
    async with running(calendar):
        await until(calendar, 1)
        begun = time.monotonic()
        for number, years in enumerate((30, -30, -50), start=2):
            clock.jump(years * YEAR_S)
            await until(calendar, number)
        assert time.monotonic() - begun < 5
        assert ran == []


async def test_a_chore_runs_at_its_time() -> None:
    ran = asyncio.get_running_loop().create_future()

    async def chore() -> None:
        ran.set_result(time.time())

    calendar = Calendar(SystemClock(0), {"* * * * *": chore}, look_s=0.5)
    async with running(calendar):
        at_s = await asyncio.wait_for(ran, 75)
    assert at_s % 60 < 30, "near the full minute, not whenever it was started"
