"""Tries again are spread: many gateways that met one trouble do not come back as one."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import pytest

from agent.domain.pace import pause_s
from agent.engine.transfer import with_retries
from agent.errors import Busy, GatewayError, NotFound, TimedOut, Unreachable

SPAN_S = 0.04


def test_waits_differ_and_stay_between_half_and_one_and_a_half() -> None:
    chance = random.Random(7).random
    waits = [pause_s(4.0, 0.0, chance()) for _ in range(200)]
    assert (min(waits) >= 2.0, max(waits) <= 6.0) == (True, True)
    assert len(set(waits)) == len(waits)
    assert (min(waits) < 2.5, max(waits) > 5.5) == (True, True)


def test_what_the_other_side_asked_for_is_the_least() -> None:
    assert [pause_s(4.0, asked_s, 0.5) for asked_s in (0.0, 3.0, 7.0)] == [4.0, 4.0, 7.0]


def failing(errors: list[GatewayError]) -> Callable[[], Awaitable[str]]:
    """Raises each error in turn, then answers."""

    async def attempt() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    return attempt


@pytest.mark.parametrize("kind", [Unreachable, TimedOut, Busy])
async def test_a_push_that_is_tried_again_draws_each_wait_anew(kind: type[GatewayError]) -> None:
    drawn: list[float] = []

    def chance() -> float:
        drawn.append(1.0)
        return drawn[-1]

    began_s = time.monotonic()
    attempt = failing([kind("x.y", "no"), kind("x.y", "no")])
    assert await with_retries(attempt, (SPAN_S, SPAN_S), chance) == "done"
    assert len(drawn) == 2
    assert time.monotonic() - began_s >= 2 * 1.45 * SPAN_S


async def test_what_will_not_pass_is_not_tried_again() -> None:
    errors: list[GatewayError] = [NotFound("x.y", "no"), NotFound("x.y", "again")]
    with pytest.raises(NotFound):
        await with_retries(failing(errors), (SPAN_S,))
    assert len(errors) == 1
