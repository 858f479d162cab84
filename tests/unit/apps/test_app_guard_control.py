"""The pump-guard APP's control law."""

from __future__ import annotations

import math

import pytest
from ec_pump_guard.control import Decision, Guard, Limits, Notice
from hypothesis import given
from hypothesis import strategies as st

LIMITS = Limits(limit_bar=6.5, band_bar=0.5)


@pytest.fixture
def guard() -> Guard:
    return Guard(LIMITS, silent_s=5.0)


def see(guard: Guard, bar: float, now_s: float = 0.0, *, good: bool = True) -> Decision:
    return guard.see(bar, good=good, now_s=now_s)


@pytest.mark.parametrize(("bar", "opening"), [(4.0, 100), (6.0, 100), (6.25, 50), (6.5, 0), (9.0, 0)])
def test_the_valve_closes_in_proportion_within_the_band(bar: float, opening: int) -> None:
    assert LIMITS.opening(bar) == opening


def test_over_the_limit_the_valve_closes_and_it_is_said_once(guard: Guard) -> None:
    assert see(guard, 5.0) == Decision(100)
    assert see(guard, 7.0) == Decision(0, (Notice.OVERPRESSURE,))
    assert see(guard, 7.2) == Decision()
    assert see(guard, 6.6) == Decision()


def test_trembling_at_the_limit_is_one_episode(guard: Guard) -> None:
    see(guard, 6.6)
    for bar in (6.45, 6.55, 6.4, 6.6):
        assert not see(guard, bar).notices
    assert see(guard, 6.25).notices == (Notice.RELIEVED,)
    assert see(guard, 6.6).notices == (Notice.OVERPRESSURE,)


def test_small_steps_are_not_worth_a_write_but_the_ends_are(guard: Guard) -> None:
    assert see(guard, 6.25).opening == 50
    assert see(guard, 6.255).opening is None
    assert see(guard, 6.27).opening == 46
    assert see(guard, 6.5).opening == 0


def test_a_lost_write_is_made_again(guard: Guard) -> None:
    assert see(guard, 7.0).opening == 0
    assert see(guard, 7.0).opening is None
    guard.lost()
    assert see(guard, 7.0).opening == 0


def test_bad_values_move_nothing_and_silence_is_said_once(guard: Guard) -> None:
    see(guard, 5.0, 0.0)
    assert see(guard, 99.0, 1.0, good=False) == Decision()
    assert see(guard, math.nan, 2.0) == Decision()
    assert guard.tick(4.9) == Decision()
    assert guard.tick(5.1) == Decision(notices=(Notice.BLIND,))
    assert guard.tick(60.0) == Decision()
    assert see(guard, 5.0, 61.0).notices == (Notice.SEEING,)


def test_a_guard_that_never_saw_a_value_says_so_too(guard: Guard) -> None:
    assert guard.tick(100.0) == Decision()
    assert guard.tick(105.1).notices == (Notice.BLIND,)


@given(st.lists(st.floats(0, 16), min_size=1, max_size=50))
def test_the_valve_is_never_left_open_over_the_limit(pressures: list[float]) -> None:
    guard = Guard(LIMITS, silent_s=5.0)
    opening = 100
    for bar in pressures:
        decision = see(guard, bar)
        opening = opening if decision.opening is None else decision.opening
        if bar >= LIMITS.limit_bar:
            assert opening == 0
        assert abs(opening - LIMITS.opening(bar)) <= 2
        assert guard.over or bar <= LIMITS.limit_bar
