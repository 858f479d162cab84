"""Deadband: what is left out is never more than the band away from what was sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.reduce import Deadband, Kept
from agent.domain.sample import Quality, Scalar

GOOD, BAD = Quality.GOOD, Quality.BAD
steps = st.lists(st.tuples(st.integers(1, 500), st.floats(-1e6, 1e6)), min_size=1, max_size=60)


def series(moves: list[tuple[int, float]]) -> list[tuple[int, float]]:
    t_ms, out = 0, []
    for step_ms, value in moves:
        t_ms += step_ms
        out.append((t_ms, value))
    return out


def run(band: Deadband, samples: list[tuple[int, float]]) -> list[Kept]:
    return [kept for t_ms, value in samples for kept in band.offer(t_ms, value, GOOD, t_ms / 1000)]


@given(steps, st.floats(0, 1e5), st.none() | st.integers(1, 2000))
def test_held_values_reconstruct_the_series_within_the_band(
    moves: list[tuple[int, float]], width: float, interval_ms: int | None
) -> None:
    samples = series(moves)
    kept = run(Deadband(width, interval_ms), samples)
    for t_ms, value in samples:
        held = [v for t, v, _ in kept if t <= t_ms][-1]
        assert isinstance(held, float)
        assert abs(value - held) <= width * (1 + 1e-12)


@given(steps, st.floats(0, 1e5), st.integers(1, 2000))
def test_no_sample_is_older_than_the_interval_without_a_report(
    moves: list[tuple[int, float]], width: float, interval_ms: int
) -> None:
    samples = series(moves)
    kept = [t for t, _, _ in run(Deadband(width, interval_ms), samples)]
    for t_ms, _ in samples:
        assert t_ms - max(t for t in kept if t <= t_ms) < interval_ms


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(-10, 10)), min_size=1, max_size=60))
def test_whatever_the_order_what_is_kept_was_a_sample_and_late_ones_are_never_lost(
    samples: list[tuple[int, float]],
) -> None:
    band = Deadband(1.0, None)
    newest = -1
    for t_ms, value in samples:
        kept = band.offer(t_ms, value, GOOD, 0.0)
        assert {(t, v) for t, v, _ in kept} <= set(samples)
        if t_ms < newest:
            assert kept[0] == (t_ms, value, GOOD)
        newest = max(newest, t_ms)


def test_a_change_of_quality_is_reported() -> None:
    band = Deadband(5.0, None)
    assert band.offer(1, 1.0, GOOD, 0.0)
    assert band.offer(2, 1.0, GOOD, 0.0) == ()
    assert band.offer(3, 1.0, BAD, 0.0) == ((3, 1.0, BAD),)


def test_what_was_held_back_is_reported_when_nothing_more_comes() -> None:
    band = Deadband(5.0, 1000)
    band.offer(0, 1.0, GOOD, 0.0)
    band.offer(100, 2.0, GOOD, 0.1)
    assert band.due_s == 1.0
    assert band.flush_due(0.9) == ()
    assert band.flush_due(1.0) == ((100, 2.0, GOOD),)
    assert band.due_s is None


def test_texts_and_booleans_are_reported_on_any_change_and_only_then() -> None:
    band = Deadband(0.0, None)
    values: list[Scalar] = ["open", "open", "shut", True, True, False]
    kept = [bool(band.offer(t, value, GOOD, 0.0)) for t, value in enumerate(values)]
    assert kept == [True, False, True, True, False, True]
