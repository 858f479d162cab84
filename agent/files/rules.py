"""rules.d (and `rule.apply`): local rules, each with its condition checked before anything changes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from agent.domain.alarm import Severity
from agent.domain.document import Document, Mistakes, Path, Problem, did_you_mean
from agent.domain.expression import check
from agent.domain.priority import Priority
from agent.domain.rule import Action, AlarmAction, ClearAction, EventAction, OnBad, RuleConfig, Silence, WriteAction
from agent.domain.sample import POINT_NAME
from agent.files.effect import Claim, Effect, position
from agent.files.quantities import AnyScalar, DurationS, PositiveS, mistake, shown
from agent.files.shape import Shape, in_order, read_units
from agent.files.yaml import read_document

AREA = "rules"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
ALIAS = re.compile(r"[a-z][a-z0-9_]{0,31}")
RESERVED = frozenset({"true", "false", "null", "in", "all", "exists", "map", "filter", "has", "size", "type"})
MAX_ACTIONS = 32


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise mistake(f"{shown(text)}, not a name", "use 1 to 64 of A-Z a-z 0-9 _ . -")
    return text


def _alias(text: str) -> str:
    if not ALIAS.fullmatch(text) or text in RESERVED:
        raise mistake(f"{shown(text)}, not usable in an expression", "use a-z 0-9 _ and begin with a letter")
    return text


def _point(text: str) -> str:
    if not POINT_NAME.fullmatch(text):
        raise mistake(f"{shown(text)}, not a point's name", "write it in full, such as boiler/temp")
    return text


def _on_bad(value: Any) -> Any:
    """YAML's own true and false are meant as the words."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


RuleName = Annotated[str, AfterValidator(_name)]
PointRef = Annotated[str, AfterValidator(_point)]


@dataclass(frozen=True, slots=True)
class WriteShape(Shape):
    """Write a value to a point."""

    point: Annotated[PointRef, Field(description="full name of the point to write")]
    value: Annotated[AnyScalar, Field(description="what to write")]


@dataclass(frozen=True, slots=True)
class AlarmShape(Shape):
    """Raise an alarm."""

    code: Annotated[RuleName, Field(description="short name of what is wrong")]
    severity: Annotated[Severity, Field(description="how bad it is")] = Severity.MAJOR
    message: Annotated[str, Field(max_length=512, description="what a person should read")] = ""


@dataclass(frozen=True, slots=True)
class ClearShape(Shape):
    """Clear an alarm of this rule."""

    code: Annotated[RuleName, Field(description="the alarm's code")]


@dataclass(frozen=True, slots=True)
class EventShape(Shape):
    """Send an event to the cloud."""

    name: Annotated[RuleName, Field(description="what happened")]
    data: Annotated[Mapping[str, Any], Field(max_length=64, description="anything to go with it")] = field(
        default_factory=dict
    )
    priority: Annotated[Priority, Field(description="how urgent it is")] = Priority.CRITICAL


@dataclass(frozen=True, slots=True)
class ActionShape(Shape):
    """One action: exactly one of its keys."""

    write: Annotated[WriteShape | None, Field(description="write {point, value}")] = None
    alarm: Annotated[AlarmShape | None, Field(description="raise an alarm {code, severity, message}")] = None
    clear: Annotated[ClearShape | None, Field(description="clear an alarm {code}")] = None
    event: Annotated[EventShape | None, Field(description="send an event {name, data}")] = None


Actions = Annotated[tuple[ActionShape, ...], Field(max_length=MAX_ACTIONS)]


@dataclass(frozen=True, slots=True)
class SilenceShape(Shape):
    """What to do when an input falls silent."""

    after: Annotated[PositiveS, Field(description="no sample of some input for this long")]
    then: Annotated[Actions, Field(description="actions, in this order")]


@dataclass(frozen=True, slots=True)
class RuleShape(Shape):
    """A rule: when an expression holds for so long, then act; else act once it no longer does."""

    inputs: Annotated[
        Mapping[Annotated[str, AfterValidator(_alias)], PointRef],
        Field(min_length=1, max_length=32, description="alias: point, for use in the expression"),
    ]
    when: Annotated[
        str,
        Field(min_length=1, max_length=4096, description="CEL over the aliases: value, previous, quality, age_s, rate"),
    ]
    then: Annotated[Actions, Field(min_length=1, description="actions, once, when it has held long enough")]
    for_s: Annotated[DurationS, Field(alias="for", description="how long it must hold before it counts")] = 0.0
    otherwise: Annotated[Actions, Field(alias="else", description="actions, once, when it no longer holds")] = ()
    on_bad: Annotated[
        OnBad,
        BeforeValidator(_on_bad),
        WithJsonSchema({"enum": ["hold", "false", "true", False, True]}),
        Field(description="what the condition is worth while an input is bad"),
    ] = OnBad.HOLD
    silence: Annotated[SilenceShape | None, Field(description="what to do when an input falls silent")] = None


@dataclass(frozen=True, slots=True)
class RulesFile(Shape):
    """A file of rules.d."""

    rules: Annotated[Mapping[RuleName, RuleShape], Field(description="rules, by name")]


def read_rules(document: Document) -> Effect:
    """The rules of a file. Raises Mistakes with every mistake."""
    file, problems = read_units(document, RulesFile, AREA, [("rules", "*")])
    rules: list[RuleConfig] = []
    claims: list[Claim] = []
    for name, rule in (file.rules if file else {}).items():
        here: Path = ("rules", name)
        wrong = check(rule.when, tuple(rule.inputs))
        if wrong:
            problems.append(document.problem((*here, "when"), f"{AREA}.expression", f"'when': {wrong}"))
        mark = document.key_mark(here)
        claims.append(Claim(f"rule '{name}'", mark))
        rules.append(
            RuleConfig(
                name=name,
                inputs=tuple(rule.inputs.items()),
                when=rule.when,
                for_s=rule.for_s,
                then=_actions(document, rule.then, (*here, "then"), problems),
                otherwise=_actions(document, rule.otherwise, (*here, "else"), problems),
                on_bad=rule.on_bad,
                silence=_silence(document, rule.silence, here, problems),
                source=position(document.source, mark),
            )
        )
        problems += _clears_without_alarm(document, rule, here)
    if problems:
        raise Mistakes(in_order(problems))
    return Effect(document.source, tuple(rules), tuple(claims))


def read_rules_text(text: str, source: str) -> tuple[RuleConfig, ...]:
    """The rules of a text that came by command. Raises Mistakes."""
    return read_rules(read_document(text, source)).items


def _silence(document: Document, silence: SilenceShape | None, here: Path, problems: list[Problem]) -> Silence | None:
    if silence is None:
        return None
    path: Path = (*here, "silence", "then")
    if not silence.then:
        problems.append(document.problem(path, f"{AREA}.no_action", "'silence' has no action", "list at least one"))
    return Silence(silence.after, _actions(document, silence.then, path, problems))


def _actions(
    document: Document, shapes: Sequence[ActionShape], path: Path, problems: list[Problem]
) -> tuple[Action, ...]:
    actions: list[Action] = []
    for index, shape in enumerate(shapes):
        given = [each for each in (shape.write, shape.alarm, shape.clear, shape.event) if each is not None]
        if len(given) != 1:
            what = "an action has exactly one of write, alarm, clear, event"
            hint = "begin another action with '- '" if given else "write for example '- alarm: {code: high}'"
            problems.append(document.problem((*path, index), f"{AREA}.action", what, hint))
            continue
        actions.append(_action(given[0]))
    return tuple(actions)


def _action(shape: WriteShape | AlarmShape | ClearShape | EventShape) -> Action:
    if isinstance(shape, WriteShape):
        return WriteAction(shape.point, shape.value)
    if isinstance(shape, AlarmShape):
        return AlarmAction(shape.code, shape.severity, shape.message)
    if isinstance(shape, ClearShape):
        return ClearAction(shape.code)
    return EventAction(shape.name, shape.data, shape.priority)


def _clears_without_alarm(document: Document, rule: RuleShape, here: Path) -> list[Problem]:
    """A code that is cleared and never raised is a misspelling."""
    silent = rule.silence.then if rule.silence else ()
    raised = {action.alarm.code for action in (*rule.then, *rule.otherwise, *silent) if action.alarm}
    problems: list[Problem] = []
    for part, actions in (("then", rule.then), ("else", rule.otherwise)):
        for index, action in enumerate(actions):
            if action.clear and action.clear.code not in raised:
                path = (*here, part, index, "clear", "code")
                message = f"'{action.clear.code}' is cleared, but this rule never raises it"
                hint = did_you_mean(action.clear.code, raised) if raised else "raise it with an alarm action"
                problems.append(document.problem(path, f"{AREA}.clear", message, hint))
    return problems
