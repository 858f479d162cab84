"""Calling something later: one suite on the timers wound by hand and on those of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from agent.data.timers import Handle, LoopTimers, Timers
from agent.host.clock import SystemClock
from agent.ports import Clock
from tests.fakes.hand_clock import HandClock, HandTimers

LONG_S = 3_600.0


class Lab(Protocol):
    """Timers with their clock; `errors` are what calls raised."""

    timers: Timers
    clock: Clock
    errors: list[BaseException]

    async def let_pass(self, seconds: float) -> None: ...


class HandLab:
    def __init__(self) -> None:
        self.hand_clock = HandClock()
        self.clock: Clock = self.hand_clock
        self.hand = HandTimers(self.hand_clock)
        self.timers: Timers = self.hand
        self.errors: list[BaseException] = []

    async def let_pass(self, seconds: float) -> None:
        await asyncio.sleep(0)
        try:
            self.hand.advance(seconds)
        except ArithmeticError as error:
            self.errors.append(error)


class LoopLab:
    def __init__(self) -> None:
        self.clock: Clock = SystemClock(0)
        self.timers: Timers = LoopTimers()
        self.errors: list[BaseException] = []

    async def let_pass(self, seconds: float) -> None:
        """The loop wakes this sleep after all that is due before it."""
        asyncio.get_running_loop().set_exception_handler(self._keep)
        await asyncio.sleep(seconds)

    def _keep(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context["exception"])


@pytest.fixture(params=[HandLab, LoopLab], ids=["fake", "real"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made: Lab = request.param()
    yield made
    assert [error for error in made.errors if not isinstance(error, ArithmeticError)] == []


async def test_a_call_comes_once_and_not_before_its_time(lab: Lab) -> None:
    came_s: list[float] = []
    due_s = lab.clock.monotonic() + 0.02
    lab.timers.call_later(0.02, lambda: came_s.append(lab.clock.monotonic()))
    later = lab.timers.call_later(LONG_S, lambda: came_s.append(-1.0))
    assert came_s == []
    await lab.let_pass(0.04)
    await lab.let_pass(0.04)
    (came,) = came_s
    assert came >= due_s - 0.001
    later.cancel()


async def test_calls_come_by_their_time_and_those_of_one_delay_as_they_were_asked_for(lab: Lab) -> None:
    came: list[str] = []
    for name, delay_s in (("third", 0.03), ("first", 0.01), ("fourth", 0.03), ("second", 0.02)):
        lab.timers.call_later(delay_s, lambda name=name: came.append(name))  # type: ignore[misc]
    await lab.let_pass(0.06)
    assert came == ["first", "second", "third", "fourth"]


@pytest.mark.parametrize("delay_s", [0.0, -1.0])
async def test_what_is_due_at_once_or_was_before_comes_soon_but_not_inside_the_asking(lab: Lab, delay_s: float) -> None:
    came: list[float] = []
    lab.timers.call_later(delay_s, lambda: came.append(delay_s))
    assert came == []
    await lab.let_pass(0.01)
    assert came == [delay_s]


async def test_a_cancelled_call_does_not_come_and_cancelling_late_or_twice_harms_nothing(lab: Lab) -> None:
    came: list[str] = []
    kept = lab.timers.call_later(0.01, lambda: came.append("kept"))
    dropped = lab.timers.call_later(0.01, lambda: came.append("dropped"))
    dropped.cancel()
    dropped.cancel()
    await lab.let_pass(0.03)
    kept.cancel()
    await lab.let_pass(0.01)
    assert came == ["kept"]


async def test_a_call_may_cancel_another_that_is_due_with_it(lab: Lab) -> None:
    came: list[str] = []
    others: list[Handle] = []

    def first() -> None:
        came.append("first")
        others[0].cancel()

    lab.timers.call_later(0.01, first)
    others.append(lab.timers.call_later(0.011, lambda: came.append("second")))
    await lab.let_pass(0.04)
    assert came == ["first"]


async def test_a_call_may_ask_for_the_next(lab: Lab) -> None:
    came_s: list[float] = []
    begun_s = lab.clock.monotonic()

    def again() -> None:
        came_s.append(lab.clock.monotonic())
        if len(came_s) < 3:
            lab.timers.call_later(0.01, again)

    lab.timers.call_later(0.01, again)
    async with asyncio.timeout(5):
        while len(came_s) < 3:
            await lab.let_pass(0.05)
    assert came_s == sorted(came_s)
    assert came_s[-1] >= begun_s + 0.03 - 0.001


async def test_a_call_that_raises_keeps_no_other_from_its_time(lab: Lab) -> None:
    came: list[str] = []
    lab.timers.call_later(0.01, lambda: came.append(str(1 // 0)))
    lab.timers.call_later(0.02, lambda: came.append("next"))
    await lab.let_pass(0.05)
    assert came == ["next"]
    assert [type(error) for error in lab.errors] == [ZeroDivisionError]
