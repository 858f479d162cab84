"""points.d: overrides change only what they give, and the exact name has the last word."""

from __future__ import annotations

import pytest

from agent.domain.sample import PointConfig, SafeValue, WriteLimits
from agent.files.points import order_overrides
from tests.unit.files.parts import mistakes, read


def test_an_override_changes_only_what_it_gives() -> None:
    text = "points: {pump/speed: {unit: rpm, window: 10s, write: {max: 5}, safe: {value: 1, after: 2s}}}"
    (override,) = read("points", text).items
    before = PointConfig("pump/speed", deadband=3.0, max_interval_s=7.0)
    after = override.apply(before)
    assert (after.unit, after.window_s, after.writable, after.limits) == ("rpm", 10.0, True, WriteLimits(max=5))
    assert (after.deadband, after.max_interval_s, after.name) == (3.0, 7.0, "pump/speed")
    assert after.safe == SafeValue(1, 2.0)
    assert override.source == "f.yaml:1"


def test_wide_filters_are_applied_first_and_exact_names_last() -> None:
    text = "points: {pump/speed: {unit: c}, 'pump/#': {unit: a}, '#': {unit: z}, pump/+: {unit: b}}"
    overrides = order_overrides(read("points", text).items)
    assert [override.filter for override in overrides] == ["#", "pump/#", "pump/+", "pump/speed"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("points: {a: {untit: x}}", "f.yaml:1:14: unknown key 'untit' in 'points.a'; did you mean 'unit'?"),
        ("points: {'a/#/b': {}}", "f.yaml:1:10: the name is 'a/#/b': '#' can only be the last level"),
        ("points: {'a b': {}}", "f.yaml:1:10: the name is 'a b': 'a b' has other characters than"),
        (
            "points: {a: {address: {register: 1}}}",
            "f.yaml:1:23: 'address' has no meaning here; a device's points stand in devices.d",
        ),
        ("points: {a: {range: [3, 1]}}", "f.yaml:1:21: 'range' goes from 3 to 1; write [lowest, highest]"),
        (
            "points: {a: {type: bool, deadband: 1}}",
            "f.yaml:1:36: 'deadband' means nothing for type bool; remove it, or mend the type",
        ),
        (
            "points: {a: {write: {max: 1}, safe: {value: 3, after: 1s}}}",
            "f.yaml:1:45: 'safe.value' is 3, outside the write limits; allowed: at most 1",
        ),
    ],
)
def test_a_mistake_in_an_override_is_named_with_its_place(text: str, expected: str) -> None:
    found = mistakes("points", text)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_a_safe_value_may_be_given_alone_because_the_app_may_have_said_the_rest() -> None:
    for value in ("1", "true", "closed"):
        assert mistakes("points", f"points: {{a: {{safe: {{value: {value}, after: 1s}}}}}}") == []
