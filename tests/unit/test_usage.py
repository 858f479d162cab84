"""Rates between two looks, and what of the use is worth telling anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.domain.usage import Rates, Usage, describe_usage, is_news, percent_of, rates_between

MIB = 1024**2
USAGE = Usage(1_000_000_000, 8 * MIB, 64 * MIB, 4, 64, oom_kills=0, periods=100, throttled_periods=10)


def test_rates_are_of_one_core_and_of_the_slices() -> None:
    later = replace(USAGE, cpu_ns=3_500_000_000, periods=200, throttled_periods=60)
    assert rates_between(USAGE, later, 5.0) == Rates(50.0, 50.0)


def test_a_first_look_and_a_restarted_one_have_no_rates() -> None:
    assert rates_between(None, USAGE, 5.0) == Rates()
    assert rates_between(USAGE, replace(USAGE, cpu_ns=1), 5.0) == Rates()
    assert rates_between(USAGE, USAGE, 0.0) == Rates()


def test_without_a_limit_nothing_is_throttled_and_nothing_has_a_share() -> None:
    free = replace(USAGE, periods=0, throttled_periods=0)
    assert rates_between(free, replace(free, cpu_ns=2_000_000_000), 1.0) == Rates(100.0, 0.0)
    assert percent_of(5, 0) is None


def shown(**changes: int) -> dict[str, object]:
    return {"services": {"main": describe_usage(replace(USAGE, **changes), Rates(1.0, 0.0))}, "disk": {}}


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, False),
        ({"cpu_ns": 10**15}, False),
        ({"mem_bytes": 9 * MIB}, False),
        ({"mem_bytes": 20 * MIB}, True),
        ({"pids": 6}, False),
        ({"pids": 40}, True),
        ({"oom_kills": 1}, True),
    ],
)
def test_only_what_has_moved_is_news(changes: dict[str, int], news: bool) -> None:
    assert is_news(shown(), shown(**changes)) is news


def test_what_comes_or_goes_is_news() -> None:
    assert is_news({}, shown())
    assert is_news({"services": {}, "disk": {}}, shown())
    assert is_news(shown(), {"services": {}, "disk": {}})
