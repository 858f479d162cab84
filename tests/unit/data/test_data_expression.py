"""Conditions of rules: what is refused, in words a technician can act on, and what they are worth."""

from __future__ import annotations

import sys

import pytest

from agent.domain.expression import FIELDS, check, compile_condition
from agent.domain.sample import Scalar
from agent.errors import Failed, Malformed

ALIASES = ("pressure", "temp")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty", "pressure.value > 6.5"]),
        ("presure.value > 6", ["unknown input 'presure'", "did you mean 'pressure'?"]),
        ("pressure.valeu > 6", ["no field 'valeu'", "did you mean 'value'?"]),
        ("pressure > 6", ["is an input, not a value", "write pressure.value"]),
        ("pressure.value = 6", ["unexpected '='", "character 16", "write =="]),
        ("pressure.value > 6 and temp.value > 1", ["'and'", "write &&"]),
        ("pressure.value > 6 &&", ["not a CEL expression"]),
        ("pressure.value > 6,5", ["not a CEL expression"]),
        ("pressure.value / 0 > 1", ["divides by zero"]),
        ("abs(pressure.value) > 1", ["unknown function 'abs'"]),
        ("has(pressure.value)", ["'has'", "always there"]),
        ("1 < 2", ["looks at no input"]),
        ("pressure.value % 2 == 0", ["types do not fit together"]),
        ("pressure.value + 1", ["gives float, not true or false"]),
        ("x" * 5000, ["at most 4096"]),
        ("(" * 300 + "pressure.value > 1" + ")" * 300, ["not a CEL expression"]),
        ("pressure.value > '", ["unexpected"]),
    ],
)
def test_a_wrong_condition_is_refused_with_what_and_what_to_do(text: str, words: list[str]) -> None:
    answer = check(text, ALIASES)
    assert answer is not None
    for word in words:
        assert word in answer


def test_a_refusal_has_the_stable_code() -> None:
    with pytest.raises(Malformed) as refused:
        compile_condition("nope.value > 1", ALIASES)
    assert refused.value.code == "rule.expression"


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("pressure.value > 6.5", {"pressure.value": 7.0}, True),
        ("pressure.value > 6", {"pressure.value": 6.5}, True),
        ("pressure.value * 2 > 10", {"pressure.value": 5.0}, False),
        ("pressure.value == 5", {"pressure.value": 5.0}, True),
        ("pressure.value > 6 && temp.quality == 'good'", {"pressure.value": 7.0, "temp.quality": "good"}, True),
        ("pressure.value - pressure.previous > 1", {"pressure.value": 7.0, "pressure.previous": 5.0}, True),
        ("pressure.rate < -0.5 || temp.age_s > 10", {"pressure.rate": 0.0, "temp.age_s": 11.0}, True),
        ("pressure.value", {"pressure.value": True}, True),
        ("!pressure.value", {"pressure.value": True}, False),
        ("temp.value == 'pressure.value > 6'", {"temp.value": "pressure.value > 6"}, True),
        ("temp.value.startsWith('op')", {"temp.value": "open"}, True),
        ("[1, 5].exists(x, x > pressure.value)", {"pressure.value": 4.0}, True),
        ("pressure.value in [1, 2]", {"pressure.value": 2.0}, True),
        ("pressure.value > 0x10 // sixteen", {"pressure.value": 17.0}, True),
    ],
)
def test_a_condition_is_worth_what_it_says(text: str, values: dict[str, Scalar], holds: bool) -> None:
    condition = compile_condition(text, ALIASES)
    assert {f"{alias}.{field}" for alias, field in condition.uses} == set(values)
    variables = {n: values[f"{a}.{f}"] for n, (a, f) in zip(condition.names, condition.uses, strict=True)}
    assert condition.evaluate(variables) is holds


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_may_be_used(field: str) -> None:
    literal = "'good'" if field == "quality" else "1"
    assert check(f"pressure.{field} == {literal}", ALIASES) is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("pressure.value / temp.value > 1", [1.0, 0.0]),
        ("pressure.value > temp.value", [1.0, "a"]),
        ("pressure.value && temp.value > 1", [1.0, 2.0]),
        ("pressure.value > temp.value", [float("nan"), 1.0]),
    ],
)
def test_an_evaluation_that_fails_says_so_and_is_never_true(text: str, values: list[Scalar]) -> None:
    condition = compile_condition(text, ALIASES)
    with pytest.raises(Failed) as failed:
        condition.evaluate(dict(zip(condition.names, values, strict=True)))
    assert failed.value.code == "rule.evaluation"


def test_the_package_with_its_command_line_is_not_imported() -> None:
    assert check("pressure.value > 1", ALIASES) is None
    assert "cel.cli" not in sys.modules
