"""Lines with hysteresis: what raises, what clears, and that nothing flaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.threshold import Level, Threshold, observe

MUCH = Threshold(90, 80)
LITTLE = Threshold(10, 15)


def run(threshold: Threshold, *values: tuple[float, float | None]) -> list[bool]:
    """`raised` after each (time, value)."""
    level, found = Level(), []
    for at, value in values:
        level = observe(level, threshold, value, at)
        found.append(level.raised)
    return found


def test_too_much_is_raised_beyond_the_limit_and_cleared_behind_the_band() -> None:
    assert run(MUCH, (0, 90), (1, 91), (2, 85), (3, 80), (4, 79)) == [False, True, True, True, False]


def test_too_little_is_the_same_the_other_way_round() -> None:
    assert run(LITTLE, (0, 10), (1, 9), (2, 12), (3, 15), (4, 16)) == [False, True, True, True, False]


def test_a_moment_is_not_enough_where_a_time_is_asked_for() -> None:
    slow = Threshold(90, 80, for_s=60)
    assert run(slow, (0, 99), (30, 99), (40, 89), (50, 99), (109, 99), (110, 99)) == [False] * 5 + [True]
    assert run(slow, (0, 99), (60, 99), (61, 0), (100, 99), (101, 0), (160, 0), (161, 0)) == (
        [False, True, True, True, True, True, False]
    )


def test_what_could_not_be_measured_changes_nothing() -> None:
    assert run(MUCH, (0, None), (1, 95), (2, None), (3, 85)) == [False, True, True, True]


def test_a_line_without_a_band_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="flap"):
        Threshold(50, 50)


LINES = st.tuples(st.floats(0, 100), st.floats(0, 100), st.sampled_from([0.0, 5.0, 60.0])).filter(
    lambda t: t[0] != t[1]
)
SERIES = st.lists(st.tuples(st.floats(0, 30), st.none() | st.floats(-10, 110)), max_size=80)


@given(LINES, SERIES)
def test_no_alarm_flaps(lines: tuple[float, float, float], series: list[tuple[float, float | None]]) -> None:
    """Every raise stands on a value beyond the limit, every clear on one behind the band, each held for its time."""
    threshold = Threshold(*lines)
    level, now, held_since = Level(), 0.0, None
    for later_s, value in series:
        now += later_s
        after = observe(level, threshold, value, now)
        if value is not None:
            crossed = threshold.behind(value) if level.raised else threshold.beyond(value)
            held_since = (now if held_since is None else held_since) if crossed else None
        if after.raised != level.raised:
            assert held_since is not None
            assert now - held_since >= threshold.for_s
            held_since = None
        elif value is not None and held_since is not None:
            assert now - held_since < threshold.for_s, "what has held long enough is told at once"
        level = after


@given(LINES, st.lists(st.floats(0, 1), min_size=1, max_size=50), st.booleans())
def test_a_value_that_stays_within_the_band_changes_nothing(
    lines: tuple[float, float, float], shares: list[float], raised: bool
) -> None:
    threshold = Threshold(*lines)
    low, high = sorted(lines[:2])
    level = Level(raised)
    for number, share in enumerate(shares):
        level = observe(level, threshold, min(high, max(low, low + share * (high - low))), number * 100.0)
    assert level.raised is raised
