"""From a parsed file to checked objects: pydantic checks, this module says it in a technician's words, with positions.

One definition serves for all: a frozen dataclass derived from `Shape` states keys, defaults, bounds and their
meaning; `read_shape` fills it, `schema_of` writes the JSON Schema for editors, and the tests list its keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from agent.domain.document import Document, Mistakes, Path, Problem, did_you_mean, nearest
from agent.files.quantities import shown

T = TypeVar("T")
Words = tuple[str, str, str]
UNKNOWN = frozenset({"unexpected_keyword_argument", "extra_forbidden"})
MISSING = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})


@dataclass(frozen=True, slots=True)
class Shape:
    """Base of what a mapping in a file may hold: unknown keys are an error, nothing is coerced."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


def read_shape(document: Document, shape: type[T], area: str) -> T:
    """`document`'s whole content as a `shape`. Raises Mistakes with every mistake; codes are ``<area>.what``."""
    value, problems = read_units(document, shape, area, ())
    if problems or value is None:
        raise Mistakes(problems)
    return value


def read_units(
    document: Document, shape: type[T], area: str, units: Sequence[tuple[str, ...]]
) -> tuple[T | None, list[Problem]]:
    """What of `document` is a `shape`, and the mistakes: so that what is sound can be checked further at the same time.

    A mistake costs the innermost of `units` around it (``("rules", "*")``: one rule); outside of all units, the whole.
    """
    data = {} if document.data is None else document.data
    value, errors = _validate(document, data, shape, area)
    if not errors:
        return value, []
    problems = in_order(_translate_all(document, errors, schema_of(cast("Any", shape)), area))
    sound = data
    for details in errors:
        unit = _innermost(details["loc"], units)
        if unit is None:
            return None, problems
        sound = _without(sound, unit)
    return _validate(document, sound, shape, area)[0], problems


def _validate(document: Document, data: Any, shape: type[T], area: str) -> tuple[T | None, list[ErrorDetails]]:
    form: Any = shape
    try:
        text = json.dumps(data)
    except (TypeError, ValueError) as error:
        raise Mistakes([document.problem((), f"{area}.wrong_type", f"the file cannot be read: {error}")]) from None
    try:
        return cast("T", _adapter(form).validate_json(text)), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _innermost(loc: tuple[int | str, ...], units: Sequence[tuple[str, ...]]) -> Path | None:
    fitting = [
        unit
        for unit in units
        if len(loc) >= len(unit) and all(want in ("*", step) for want, step in zip(unit, loc, strict=False))
    ]
    return loc[: len(max(fitting, key=len))] if fitting else None


def _without(data: Any, path: Path) -> Any:
    """A copy of nested mappings without what stands at `path`; as it is where nothing does."""
    if not isinstance(data, dict) or path[0] not in data:
        return data
    if len(path) == 1:
        return {key: value for key, value in data.items() if key != path[0]}
    return {**data, path[0]: _without(data[path[0]], path[1:])}


def _translate_all(
    document: Document, errors: list[ErrorDetails], schema: Mapping[str, Any], area: str
) -> list[Problem]:
    """Each mistake once.

    A list counts only its sound items, so "too few" beside a mistake inside says nothing; nor does "missing" beside a
    misspelt key that is taken for the missing one.
    """
    misspelt = {
        (*_existing(document.data, e["loc"])[:-1], nearest(str(e["loc"][-1]), known_keys(schema, e["loc"][:-1])))
        for e in errors
        if e["type"] in UNKNOWN
    }
    locs = [details["loc"] for details in errors]
    found: dict[Problem, None] = {}
    for details in errors:
        loc = details["loc"]
        inside = any(len(other) > len(loc) and other[: len(loc)] == loc for other in locs)
        meant = details["type"] in MISSING and loc in misspelt
        if not meant and not (details["type"] == "too_short" and inside):
            found[_translate(document, details, schema, area)] = None
    return list(found)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems as a person works through them: by file, then from the top."""
    return sorted(problems, key=lambda each: (each.source, each.mark.line, each.mark.col))


@cache
def schema_of(shape: Any) -> dict[str, Any]:
    """The JSON Schema of a shape, with the keys as they stand in the file."""
    return _adapter(shape).json_schema(by_alias=True)


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def known_keys(schema: Mapping[str, Any], path: Path) -> list[str]:
    """The keys allowed in the mapping at `path`."""
    return list(node_at(schema, path).get("properties", {}))


def node_at(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The part of the JSON Schema that describes what stands at `path`; empty where it says nothing."""
    node = _resolve(schema, schema)
    for step in path:
        below = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
        if below is None:
            below = node.get("additionalProperties")
        node = _resolve(schema, below) if isinstance(below, Mapping) else {}
    return node


def _resolve(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while True:
        if "$ref" in node:
            found = schema["$defs"][str(node["$ref"]).rsplit("/", 1)[-1]]
            node = {**found, **{key: value for key, value in node.items() if key != "$ref"}}
        elif "anyOf" in node:
            node = {**node, **next(each for each in node["anyOf"] if each.get("type") != "null")}
            node = {key: value for key, value in node.items() if key != "anyOf"}
        else:
            return node


def _translate(document: Document, details: ErrorDetails, schema: Mapping[str, Any], area: str) -> Problem:
    kind, loc = details["type"], details["loc"]
    path = _existing(document.data, loc)
    if kind in UNKNOWN:
        key = str(loc[-1])
        where = _named(path[:-1]) if path[-1:] == (key,) else _named(path)
        hint = did_you_mean(key, known_keys(schema, path[:-1]))
        return document.problem(path, f"{area}.unknown_key", f"unknown key '{key}' in {where}", hint, at_key=True)
    if kind in MISSING and isinstance(loc[-1], int):
        message = f"{_named(path)} has too few values"
        return document.problem(path, f"{area}.wrong_type", message, allowed(node_at(schema, path)))
    if kind in MISSING:
        hint = str(node_at(schema, loc).get("description", ""))
        message = f"'{loc[-1]}' is missing in {_named(path)}"
        return document.problem(path, f"{area}.missing_key", message, hint, at_key=True)
    what, message, hint = _words(details, node_at(schema, path))
    at_key = loc[-1:] == ("[key]",)
    name = _named(path)
    message = f"the name {message}" if at_key else f"{name} {message}"
    return document.problem(path, f"{area}.{what}", message, hint, at_key=at_key)


def _existing(data: Any, loc: tuple[int | str, ...]) -> Path:
    """The longest beginning of pydantic's `loc` that stands in the file: the rest are names of its own checks."""
    path: list[int | str] = []
    for step in loc:
        inside = step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int)
        if not inside or (isinstance(data, list) and isinstance(step, int) and step >= len(data)):
            break
        data = data[step]
        path.append(step)
    return tuple(path)


def _named(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return f"'{text}'" if text else "the file"


def _words(details: ErrorDetails, node: Mapping[str, Any]) -> Words:
    """(what, message, hint) of an error about a value."""
    speak = WORDS.get(details["type"])
    value = shown(details.get("input"))
    if speak is not None:
        what, message, hint = speak(details.get("ctx", {}), value)
    else:
        what, message, hint = "bad_value", f"is {value}: {details['msg'].lower()}", ""
    return what, message, hint or allowed(node)


def allowed(node: Mapping[str, Any]) -> str:
    """What the schema of a value allows, in words."""
    if "enum" in node:
        return "allowed: " + ", ".join(str(each) for each in node["enum"])
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(str(node.get("type")))
    low, high = node.get("minimum"), node.get("maximum")
    if kind is None:
        return f"allowed: {node['description']}" if "description" in node else ""
    if low is not None and high is not None:
        return f"allowed: {kind} from {low} to {high}"
    if low is not None or "exclusiveMinimum" in node:
        return (
            f"allowed: {kind}, at least {low}"
            if low is not None
            else f"allowed: {kind} above {node['exclusiveMinimum']}"
        )
    return f"allowed: {kind}" + (f", at most {high}" if high is not None else "")


def _wrong(wanted: str, hint: str = "") -> Callable[[Mapping[str, Any], str], Words]:
    return lambda _, value: ("wrong_type", f"is {value}, not {wanted}", hint)


def _bound(text: str) -> Callable[[Mapping[str, Any], str], Words]:
    return lambda limits, value: ("out_of_range", f"is {value}, {text.format(**limits)}", "")


def _choice(limits: Mapping[str, Any], value: str) -> Words:
    choices = [each.strip("' ") for each in str(limits.get("expected", "")).replace(" or ", ", ").split(",")]
    near = did_you_mean(value.strip("'"), choices)
    every = "allowed: " + ", ".join(choices)
    return "bad_value", f"is {value}", every if near.startswith("allowed") else f"{every}; {near}"


WORDS: dict[str, Callable[[Mapping[str, Any], str], Words]] = {
    "said": lambda limits, _: ("bad_value", f"is {limits['message']}", str(limits["hint"])),
    "dataclass_type": _wrong("a mapping", "write one 'key: value' a line, indented below it"),
    "dict_type": _wrong("a mapping", "write one 'key: value' a line, indented below it"),
    "list_type": _wrong("a list", "write [a, b] or one '- item' a line"),
    "tuple_type": _wrong("a list", "write [a, b] or one '- item' a line"),
    "string_type": _wrong("a text", "put it in quotes"),
    "int_type": _wrong("a whole number"),
    "int_from_float": _wrong("a whole number"),
    "float_type": _wrong("a number"),
    "bool_type": _wrong("true or false"),
    "literal_error": _choice,
    "enum": _choice,
    "greater_than_equal": _bound("less than {ge}"),
    "greater_than": _bound("not above {gt}"),
    "less_than_equal": _bound("more than {le}"),
    "less_than": _bound("not below {lt}"),
    "finite_number": lambda _, value: ("bad_value", f"is {value}, not a finite number", ""),
    "string_pattern_mismatch": lambda _, value: ("bad_value", f"is {value}", ""),
    "string_too_short": lambda _, value: ("bad_value", "is empty" if value == "''" else f"is {value}: too short", ""),
    "string_too_long": lambda limits, _: ("bad_value", f"is longer than {limits['max_length']} characters", ""),
    "too_short": lambda limits, _: (
        "bad_value",
        f"has fewer than {limits['min_length']} items" if limits["actual_length"] else "is empty",
        "",
    ),
    "too_long": lambda limits, _: ("bad_value", f"has more than {limits['max_length']} items", ""),
    "missing_keyword_only_argument": lambda _, value: ("missing_key", f"is {value}", ""),
}
