"""Grants: MQTT filters decide alone, and what is not granted is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.grants import Grants, check_filter, matches, overlaps

LEVELS = ("a", "b")
NAMES = ["/".join(each) for length in (1, 2, 3, 4) for each in itertools.product(LEVELS, repeat=length)]
FILTERS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=0, max_size=3).flatmap(
    lambda levels: st.sampled_from([levels, [*levels, "#"]]).filter(bool).map("/".join)
)


def covered(topic_filter: str) -> set[str]:
    """By the words of the MQTT standard, one name at a time."""
    found = set()
    for name in NAMES:
        pattern, levels = topic_filter.split("/"), name.split("/")
        if pattern[-1] == "#":
            # "a/#" also stands for "a" itself.
            pattern, levels = pattern[:-1], levels[: len(pattern) - 1]
        if len(pattern) == len(levels) and all(p in ("+", n) for p, n in zip(pattern, levels, strict=True)):
            found.add(name)
    return found


@given(FILTERS)
def test_a_filter_matches_the_names_that_mqtt_says(topic_filter: str) -> None:
    assert {name for name in NAMES if matches(topic_filter, name)} == covered(topic_filter)


@given(FILTERS, FILTERS)
def test_two_filters_overlap_when_a_name_is_covered_by_both(left: str, right: str) -> None:
    assert overlaps(left, right) == bool(covered(left) & covered(right))
    assert overlaps(left, right) == overlaps(right, left)


@given(FILTERS, FILTERS)
def test_a_filter_covers_another_only_with_all_its_names(outer: str, inner: str) -> None:
    if matches(outer, inner):
        assert covered(inner) <= covered(outer)


def test_a_narrow_right_does_not_cover_a_wide_subscription() -> None:
    grants = Grants(points_read=("boiler/+",))
    assert grants.may_read("boiler/temp")
    assert grants.may_read("boiler/+")
    assert not grants.may_read("boiler/#")
    assert not grants.may_read("#")


def test_nothing_is_granted_by_default() -> None:
    grants = Grants()
    for may in (grants.may_read, grants.may_write, grants.may_publish):
        assert not may("a")
    assert not any((grants.alarms, grants.gateway, grants.network_info, grants.time, grants.location, grants.kv))
    assert grants.uplink == ()


def test_each_right_looks_at_its_own_filters() -> None:
    grants = Grants(points_read=("r",), points_write=("w",), points_publish=("p",))
    rights = (grants.may_read, grants.may_write, grants.may_publish)
    asked = dict(zip("rwp", rights, strict=True))
    for mine, may in asked.items():
        assert [name for name in asked if may(name)] == [mine]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a//b", "empty"),
        ("/a", "empty"),
        ("a/#/b", "last"),
        ("a#", "alone"),
        ("a/b+", "alone"),
        ("a b", "other characters"),
        ("ä/b", "other characters"),
        ("a/$x", "other characters"),
        ("a/" * 300 + "a", "at most 512"),
    ],
)
def test_a_wrong_filter_is_named(text: str, words: str) -> None:
    assert words in (check_filter(text) or "")


@pytest.mark.parametrize("text", ["#", "+", "a", "a/b/c", "a/+/c", "a/#", "A-z_0.9/x"])
def test_a_right_filter_passes(text: str) -> None:
    assert check_filter(text) is None
