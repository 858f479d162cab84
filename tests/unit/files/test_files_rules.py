"""rules.d: what a rule becomes, and every mistake in one, its expression included."""

from __future__ import annotations

import pytest

from agent.domain.alarm import Severity
from agent.domain.document import Mistakes
from agent.domain.priority import Priority
from agent.domain.rule import AlarmAction, ClearAction, EventAction, OnBad, RuleConfig, Silence, WriteAction
from agent.files.rules import read_rules_text
from tests.unit.files.parts import mistakes, read

OVERPRESSURE = """
rules:
  overpressure:
    inputs: {pressure: boiler/pressure, temp: boiler/temp}
    when: pressure.value > 6.5 && temp.quality == "good"
    for: 500ms
    then:
      - write: {point: boiler/valve, value: 0}
      - alarm: {code: high, severity: critical, message: "Pressure above limit"}
      - event: {name: high, data: {limit: 6.5}, priority: normal}
    else:
      - write: {point: boiler/valve, value: 100}
      - clear: {code: high}
    on_bad: false
    silence: {after: 10s, then: [{alarm: {code: silent}}]}
"""


def rule(**parts: str) -> str:
    """A rule of one line a key, so that a mistake's column is easy to see."""
    lines = {"inputs": "{p: a/b}", "when": "p.value > 1", "then": "[{alarm: {code: c}}]", **parts}
    return "rules:\n  r:\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())


def test_a_rule_becomes_a_rule() -> None:
    (found,) = read("rules", OVERPRESSURE.replace("on_bad: false", 'on_bad: "false"')).items
    assert found == RuleConfig(
        name="overpressure",
        inputs=(("pressure", "boiler/pressure"), ("temp", "boiler/temp")),
        when='pressure.value > 6.5 && temp.quality == "good"',
        for_s=0.5,
        then=(
            WriteAction("boiler/valve", 0),
            AlarmAction("high", Severity.CRITICAL, "Pressure above limit"),
            EventAction("high", {"limit": 6.5}, Priority.NORMAL),
        ),
        otherwise=(WriteAction("boiler/valve", 100), ClearAction("high")),
        on_bad=OnBad.FALSE,
        silence=Silence(10.0, (AlarmAction("silent", Severity.MAJOR),)),
        source="f.yaml:3",
    )


def test_on_bad_takes_yamls_own_true_and_false_too() -> None:
    for written, meant in (("false", OnBad.FALSE), ("true", OnBad.TRUE), ("hold", OnBad.HOLD)):
        (found,) = read("rules", rule(on_bad=written)).items
        assert found.on_bad is meant


def test_what_is_left_out_has_its_default() -> None:
    (found,) = read("rules", rule()).items
    assert (found.for_s, found.otherwise, found.on_bad, found.silence) == (0.0, (), OnBad.HOLD, None)
    assert found.then == (AlarmAction("c", Severity.MAJOR),)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"whn": "x"}, "f.yaml:6:5: unknown key 'whn' in 'rules.r'; did you mean 'when'?"),
        ({"when": "q.value > 1"}, "f.yaml:4:11: 'when': unknown input 'q' at character 1"),
        ({"when": "p.valeu > 1"}, "f.yaml:4:11: 'when': 'p' has no field 'valeu' (character 1); did you mean 'value'?"),
        ({"when": "p.value >"}, "f.yaml:4:11: 'when': "),
        ({"when": "p.value = 1"}, "f.yaml:4:11: 'when': "),
        ({"when": '""'}, "f.yaml:4:11: 'rules.r.when' is empty"),
        ({"for": "5"}, "f.yaml:6:10: 'rules.r.for' is 5, not a duration; write a number and its unit"),
        ({"then": "[]"}, "f.yaml:5:11: 'rules.r.then' is empty"),
        (
            {"then": "[{write: {point: a/b}}]"},
            "f.yaml:5:13: 'value' is missing in 'rules.r.then[1].write'; what to write",
        ),
        (
            {"then": "[{write: {point: a/b, value: 1}, event: {name: x}}]"},
            "f.yaml:5:12: an action has exactly one of write, alarm, clear, event; begin another action with '- '",
        ),
        ({"then": "[{}]"}, "f.yaml:5:12: an action has exactly one of write, alarm, clear, event"),
        ({"then": "[{wriet: {}}]"}, "f.yaml:5:13: unknown key 'wriet' in 'rules.r.then[1]'; did you mean 'write'?"),
        (
            {"then": "[{alarm: {code: c, severity: huge}}]"},
            "f.yaml:5:40: 'rules.r.then[1].alarm.severity' is 'huge'; allowed: critical, major, minor, warning",
        ),
        (
            {"then": "[{write: {point: 'a b', value: 1}}]"},
            (
                "f.yaml:5:28: 'rules.r.then[1].write.point' is 'a b', not a point's name; "
                "write it in full, such as boiler/temp"
            ),
        ),
        (
            {"inputs": "{P: a/b}"},
            "f.yaml:3:14: the name is 'P', not usable in an expression; use a-z 0-9 _ and begin with a letter",
        ),
        ({"inputs": "{p: a/#}"}, "f.yaml:3:17: 'rules.r.inputs.p' is 'a/#', not a point's name"),
        ({"inputs": "{}"}, "f.yaml:3:13: 'rules.r.inputs' is empty"),
        ({"on_bad": "ignore"}, "f.yaml:6:13: 'rules.r.on_bad' is 'ignore'; allowed: hold, false, true"),
        (
            {"else": "[{clear: {code: d}}]"},
            "f.yaml:6:27: 'd' is cleared, but this rule never raises it",
        ),
        ({"silence": "{after: 1s, then: []}"}, "f.yaml:6:32: 'silence' has no action; list at least one"),
        ({"silence": "{then: []}"}, "f.yaml:6:5: 'after' is missing in 'rules.r.silence'"),
    ],
)
def test_a_mistake_in_a_rule_is_named_with_its_place(parts: dict[str, str], expected: str) -> None:
    found = mistakes("rules", rule(**parts))
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_mistakes_of_several_rules_come_at_once() -> None:
    text = rule(when="q.value > 1") + rule(when="p.value >").replace("rules:\n  r:", "  s:")
    assert [line.split(" ")[0] for line in mistakes("rules", text)] == ["f.yaml:4:11:", "f.yaml:8:11:"]


def test_a_misspelt_key_in_one_rule_does_not_hide_a_wrong_expression_in_another() -> None:
    text = rule(whn="x") + rule(when="p.value >").replace("rules:\n  r:", "  s:")
    assert [line.split(" ")[0] for line in mistakes("rules", text)] == ["f.yaml:6:5:", "f.yaml:9:11:"]


def test_the_same_rule_twice_in_a_file_is_a_mistake() -> None:
    assert "stands twice" in mistakes("rules", rule() + rule().replace("rules:\n", ""))[0]


def test_rules_that_came_by_command_are_read_and_refused_the_same_way() -> None:
    (found,) = read_rules_text(rule(), "rule.apply")
    assert (found.name, found.source) == ("r", "rule.apply:2")
    with pytest.raises(Mistakes) as caught:
        read_rules_text(rule(whn="x"), "rule.apply")
    assert str(caught.value.problems[0]).startswith("rule.apply:6:5: unknown key 'whn'")
