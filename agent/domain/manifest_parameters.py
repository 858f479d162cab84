"""Typed parameters: their declaration in `x-ec.parameters`, and whether a value fits one."""

from __future__ import annotations

import math
import re
from typing import Any

from agent.domain.document import Path
from agent.domain.manifest_findings import Findings, as_text, describe
from agent.domain.manifest_interpolation import Environment
from agent.domain.manifest_model import Parameter, ParameterType, Scalar
from agent.domain.patterns import check_pattern, is_full_match

PATH: Path = ("x-ec", "parameters")
KEYS = frozenset({"type", "default", "min", "max", "choices", "pattern", "help"})
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
BUILT_IN = "EC_APP"
MAX_VALUE_CHARS = 4096
_WORDS = {
    ParameterType.STRING: "text; quote it",
    ParameterType.NUMBER: "a number",
    ParameterType.INTEGER: "a whole number",
    ParameterType.BOOLEAN: "true or false",
}


def read_parameters(findings: Findings, value: Any) -> tuple[Parameter, ...]:
    """`x-ec.parameters`, sorted by name."""
    found = []
    for name, path, item in findings.entries(PATH, value if value is not None else {}):
        if not NAME.fullmatch(name):
            hint = "letters, digits and _, not a digit first"
            findings.say(path, "manifest.value", f"{describe(name)} is no parameter's name", hint, at_key=True)
        elif name.startswith("EC_"):
            words = "names that begin with EC_ are the gateway's own"
            findings.say(path, "manifest.reserved", words, "choose another name", at_key=True)
        else:
            parameter = _parameter(findings, name, path, item)
            if parameter is not None:
                found.append(parameter)
    return tuple(sorted(found, key=lambda each: each.name))


def _parameter(findings: Findings, name: str, path: Path, value: Any) -> Parameter | None:
    before = len(findings.problems)
    fields = findings.fields(path, value, KEYS)
    word = findings.choice((*path, "type"), fields.get("type", "string"), [each.value for each in ParameterType])
    kind = ParameterType(word or "string")
    help_ = findings.text((*path, "help"), fields.get("help", "")) or ""
    bounds = {key: _bound(findings, (*path, key), fields[key], kind) for key in ("min", "max") if key in fields}
    pattern = _pattern(findings, (*path, "pattern"), fields["pattern"], kind) if "pattern" in fields else ""
    choices: tuple[Scalar, ...] = ()
    if "choices" in fields:
        here = (*path, "choices")
        choices = tuple(item for _, item in findings.items(here, fields["choices"]) if isinstance(item, Scalar))
        if not choices:
            findings.say(here, "manifest.value", "choices has nothing to choose from", "list the allowed values")
    low, high = bounds.get("min"), bounds.get("max")
    if low is not None and high is not None and low > high:
        findings.say((*path, "min"), "manifest.value", "min is above max", "swap them")
    plain = Parameter(name, kind, None, low, high, (), pattern, help_)
    for index, choice in enumerate(choices):
        wrong = check_parameter(plain, choice)
        if wrong:
            findings.say(
                (*path, "choices", index), "manifest.value", f"choice {describe(choice)}: {wrong}", "correct it"
            )
    parameter = Parameter(name, kind, None, low, high, choices, pattern, help_)
    default = fields.get("default")
    if default is not None and len(findings.problems) == before:
        wrong = check_parameter(parameter, default)
        if wrong:
            words = f"the default of {name} is {describe(default)}"
            findings.say((*path, "default"), "manifest.value", words, f"it must be {wrong}")
    if len(findings.problems) > before:
        return None
    return Parameter(name, kind, default, low, high, choices, pattern, help_)


def _bound(findings: Findings, path: Path, value: Any, kind: ParameterType) -> float | None:
    if kind not in (ParameterType.NUMBER, ParameterType.INTEGER):
        findings.say(path, "manifest.value", "min and max are for numbers", "use pattern or choices", at_key=True)
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        findings.wrong(path, value, "a number")
        return None
    return value


def _pattern(findings: Findings, path: Path, value: Any, kind: ParameterType) -> str:
    if kind is not ParameterType.STRING:
        findings.say(path, "manifest.value", "pattern is for text", "use min, max or choices", at_key=True)
        return ""
    text = findings.text(path, value, "a regular expression")
    wrong = check_pattern(text) if text is not None else None
    if wrong:
        findings.say(path, "manifest.value", f"{describe(text)} is no regular expression: {wrong}", "correct it")
    return text or ""


def check_parameter(parameter: Parameter, value: Any) -> str | None:
    """What `value` would have to be to fit `parameter`, or None when it does."""
    if not _is_type(parameter.type, value):
        return _WORDS[parameter.type]
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return f"at most {MAX_VALUE_CHARS} characters long"
    if isinstance(value, str) and any(ord(char) < 32 and char not in "\n\t" for char in value):
        return "text without control characters"
    low, high = parameter.min, parameter.max
    if (low is not None and value < low) or (high is not None and value > high):
        return _range(low, high)
    if parameter.choices and not any(type(value) is type(choice) and value == choice for choice in parameter.choices):
        return "one of " + ", ".join(as_text(choice) for choice in parameter.choices)
    if parameter.pattern and not is_full_match(parameter.pattern, value):
        return f"text that matches {parameter.pattern}"
    return None


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return "" if low is None else f"at least {as_text(low)}"
    return f"at most {as_text(high)}" if low is None else f"from {as_text(low)} to {as_text(high)}"


def _is_type(kind: ParameterType, value: Any) -> bool:
    if kind is ParameterType.STRING:
        return isinstance(value, str)
    if kind is ParameterType.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return kind is ParameterType.NUMBER or isinstance(value, int)


def default_environment(parameters: tuple[Parameter, ...], instance: str) -> Environment:
    """The defaults as text; a parameter without one gets an example and stands open."""
    values = {BUILT_IN: instance}
    for parameter in parameters:
        values[parameter.name] = as_text(parameter.default if parameter.default is not None else _example(parameter))
    return Environment(values, frozenset(each.name for each in parameters if each.default is None))


def _example(parameter: Parameter) -> Scalar:
    if parameter.choices:
        return parameter.choices[0]
    if parameter.type is ParameterType.STRING:
        return "example"
    if parameter.type is ParameterType.BOOLEAN:
        return False
    return next((bound for bound in (parameter.min, parameter.max) if bound is not None), 1)
