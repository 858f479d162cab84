"""Tumbling windows: every sample counted exactly once."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.window import MAX_OPEN, Aggregate, Tumbling

WIDTH, LATENESS = 1_000, 500
numbers = st.floats(min_value=-1e6, max_value=1e6)


def run(window: Tumbling, samples: list[tuple[int, float]], now_s: float = 0.0) -> list[Aggregate]:
    closed: list[Aggregate] = []
    for t_ms, value in samples:
        closed += window.add(t_ms, value, now_s) or []
    return closed


def merged(aggregates: list[Aggregate]) -> dict[int, tuple[int, float, float, float]]:
    """What a receiver makes of aggregates and corrections: n, min, max and sum by window."""
    out: dict[int, tuple[int, float, float, float]] = {}
    for a in aggregates:
        n, low, high, total = out.get(a.t0_ms, (0, math.inf, -math.inf, 0.0))
        out[a.t0_ms] = (n + a.n, min(low, a.min), max(high, a.max), total + a.mean * a.n)
    return out


@st.composite
def shuffled_within_lateness(draw: st.DrawFn) -> list[tuple[int, float]]:
    """Samples whose arrival is delayed by less than the lateness."""
    times = draw(st.lists(st.integers(0, 20_000), min_size=1, max_size=60))
    delayed = [(t + draw(st.integers(0, LATENESS - 1)), t) for t in times]
    return [(t, draw(numbers)) for _, t in sorted(delayed)]


@given(shuffled_within_lateness())
def test_within_the_lateness_every_sample_is_in_its_one_aggregate(samples: list[tuple[int, float]]) -> None:
    window = Tumbling(WIDTH, LATENESS)
    aggregates = run(window, samples) + window.close_all()
    assert not any(a.late for a in aggregates)
    assert len({a.t0_ms for a in aggregates}) == len(aggregates)
    for a in aggregates:
        inside = [(t, v) for t, v in samples if a.t0_ms <= t < a.t1_ms]
        values = [v for _, v in inside]
        assert (a.n, a.min, a.max) == (len(inside), min(values), max(values))
        assert math.isclose(a.mean, math.fsum(values) / len(values), rel_tol=1e-9, abs_tol=1e-6)
        assert a.min <= a.mean <= a.max
        assert a.first in [v for t, v in inside if t == min(t for t, _ in inside)]
        assert a.last == [v for t, v in inside if t == max(t for t, _ in inside)][-1]
    assert sum(a.n for a in aggregates) == len(samples)


@given(st.lists(st.tuples(st.integers(0, 100_000), numbers), max_size=80), st.lists(st.integers(0, 79), max_size=5))
def test_in_any_order_and_with_any_timer_every_sample_is_counted_once(
    samples: list[tuple[int, float]], sweeps: list[int]
) -> None:
    window = Tumbling(WIDTH, LATENESS)
    aggregates: list[Aggregate] = []
    for index, (t_ms, value) in enumerate(samples):
        aggregates += window.add(t_ms, value, index * 0.4) or []
        if index in sweeps:
            aggregates += window.close_due(index * 0.4)
    aggregates += window.close_all()
    truth: dict[int, tuple[int, float, float]] = {}
    for t_ms, value in samples:
        t0 = t_ms - t_ms % WIDTH
        n, low, high = truth.get(t0, (0, math.inf, -math.inf))
        truth[t0] = (n + 1, min(low, value), max(high, value))
    assert {t0: m[:3] for t0, m in merged(aggregates).items()} == truth


@given(st.lists(st.integers(0, 10_000_000), max_size=200))
def test_open_windows_are_bounded(times: list[int]) -> None:
    window = Tumbling(WIDTH, 10_000_000)
    for t_ms in times:
        window.add(t_ms, 1.0, 0.0)
        assert len(window._all()) <= MAX_OPEN + 2


def test_a_window_closes_when_event_time_passes_its_end_by_the_lateness() -> None:
    window = Tumbling(WIDTH, LATENESS)
    assert run(window, [(0, 1.0), (999, 3.0), (1000, 9.0), (1499, 9.0)]) == []
    assert run(window, [(1500, 9.0)]) == [Aggregate(0, 1000, 2, 1.0, 3.0, 2.0, 1.0, 3.0)]


def test_a_silent_source_loses_nothing_its_window_closes_by_the_timer() -> None:
    window = Tumbling(WIDTH, LATENESS)
    run(window, [(200, 1.0)], now_s=50.0)
    assert window.due_s == 50.0 + 0.8 + 0.5
    assert window.close_due(51.2) == []
    assert [a.n for a in window.close_due(51.3)] == [1]
    assert window.due_s is None


def test_a_sample_after_its_window_has_closed_is_a_correction() -> None:
    window = Tumbling(WIDTH, LATENESS)
    run(window, [(0, 1.0), (5000, 1.0)])
    run(window, [(10, 7.0), (20, 8.0)], now_s=1.0)
    late = [a for a in window.close_due(100.0) if a.late]
    assert [(a.t0_ms, a.n, a.first, a.last) for a in late] == [(0, 2, 7.0, 8.0)]


def test_bad_samples_are_counted_apart() -> None:
    window = Tumbling(WIDTH, LATENESS)
    run(window, [(0, 1.0)])
    window.add_bad(10, 0.0)
    (aggregate,) = window.close_all()
    assert (aggregate.n, aggregate.bad, aggregate.mean) == (1, 1, 1.0)
