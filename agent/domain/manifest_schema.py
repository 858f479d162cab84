"""The schema of an APP's configuration: a small, stated part of JSON Schema, checked and applied.

Kept small on purpose: what a form on the local page can show and a technician can read. Everything else is an error
in the manifest, so that nobody believes in a check that is not made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.document import Path, did_you_mean
from agent.domain.manifest_findings import describe
from agent.domain.patterns import check_pattern, is_match

TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
KEYWORDS = frozenset(
    {
        "$schema", "$id", "title", "description", "examples", "default", "type", "enum", "properties", "required",
        "additionalProperties", "items", "minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern",
    }
)  # fmt: skip
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
MAX_DEPTH = 8

Wrong = tuple[Path, str]


def check_schema(schema: Any, path: Path = ()) -> Iterator[Wrong]:
    """What is wrong with a schema, each with its path within the schema."""
    if not isinstance(schema, Mapping):
        yield path, "a schema is a mapping"
        return
    if not path and schema.get("type") != "object":
        yield (*path, "type"), "the configuration as a whole must have type: object"
    if len(path) > 2 * MAX_DEPTH:
        yield path, f"a schema may be {MAX_DEPTH} levels deep"
        return
    for key in schema:
        if key not in KEYWORDS:
            yield (*path, str(key)), f"keyword '{key}' is not known here; {did_you_mean(str(key), KEYWORDS)}"
    yield from _check_keywords(schema, path)
    if "default" in schema and path:
        yield from (((*path, "default"), f"the default does not fit: {words}") for _, words in _safely(schema))
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        yield (*path, "properties"), "properties is a mapping"
        return
    for name, below in properties.items():
        yield from check_schema(below, (*path, "properties", str(name)))
    if "items" in schema:
        yield from check_schema(schema["items"], (*path, "items"))


def _safely(schema: Mapping[str, Any]) -> Iterator[Wrong]:
    try:
        yield from check_value({**schema, "default": None}, schema["default"])
    except (TypeError, AttributeError, KeyError, ValueError):
        return  # the schema itself is wrong, which is said elsewhere


def _check_keywords(schema: Mapping[str, Any], path: Path) -> Iterator[Wrong]:
    kind = schema.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in TYPES):
        yield (*path, "type"), "type is one of " + ", ".join(sorted(TYPES))
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        yield (*path, "enum"), "enum is a list of values"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield (*path, "required"), "required is a list of names"
    if not isinstance(schema.get("additionalProperties", True), bool):
        yield (*path, "additionalProperties"), "additionalProperties is true or false"
    for key in ("minimum", "maximum"):
        if key in schema and not _is_number(schema[key]):
            yield (*path, key), f"{key} is a number"
    for key in _COUNTS:
        if key in schema and not (_is_number(schema[key]) and isinstance(schema[key], int) and schema[key] >= 0):
            yield (*path, key), f"{key} is a whole number"
    if "pattern" in schema:
        wrong = check_pattern(schema["pattern"]) if isinstance(schema["pattern"], str) else "not text"
        if wrong:
            yield (*path, "pattern"), f"pattern is no regular expression: {wrong}"


def check_value(schema: Mapping[str, Any], value: Any, path: Path = ()) -> Iterator[Wrong]:
    """Where `value` does not fit a schema without mistakes."""
    kind = schema.get("type")
    if kind is not None and not _is_type(kind, value):
        yield path, f"{_name(path)} is {describe(value)}, it must be of type {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"{_name(path)} is {describe(value)}, allowed: {', '.join(map(str, schema['enum']))}"
    if isinstance(value, Mapping):
        yield from _check_object(schema, value, path)
    elif isinstance(value, list):
        yield from _check_bounds(schema, len(value), "minItems", "maxItems", path, "entries")
        for index, item in enumerate(value):
            yield from check_value(schema.get("items", {}), item, (*path, index))
    elif isinstance(value, str):
        yield from _check_bounds(schema, len(value), "minLength", "maxLength", path, "characters")
        if "pattern" in schema and not is_match(schema["pattern"], value):
            yield path, f"{_name(path)} is {describe(value)}, it must match {schema['pattern']}"
    elif _is_number(value):
        yield from _check_bounds(schema, value, "minimum", "maximum", path, "")


def _check_object(schema: Mapping[str, Any], value: Mapping[str, Any], path: Path) -> Iterator[Wrong]:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield path, f"{_name((*path, name))} is missing"
    for name, item in value.items():
        if name in properties:
            yield from check_value(properties[name], item, (*path, name))
        elif not schema.get("additionalProperties", True):
            yield (*path, name), f"unknown key '{name}'; {did_you_mean(name, properties)}"


def _check_bounds(
    schema: Mapping[str, Any], number: float, low: str, high: str, path: Path, unit: str
) -> Iterator[Wrong]:
    if low in schema and number < schema[low]:
        yield path, f"{_name(path)} has {number} {unit}, at least {schema[low]}".replace("  ", " ").replace(" ,", ",")
    if high in schema and number > schema[high]:
        yield path, f"{_name(path)} has {number} {unit}, at most {schema[high]}".replace("  ", " ").replace(" ,", ",")


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a schema's own defaults make, leaving out what has none."""
    made: dict[str, Any] = {}
    for name, below in schema.get("properties", {}).items():
        if "default" in below:
            made[name] = below["default"]
        elif below.get("type") == "object" and (inner := defaults(below)):
            made[name] = inner
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_type(kind: str, value: Any) -> bool:
    if kind in ("number", "integer"):
        return _is_number(value) and (kind == "number" or isinstance(value, int) or value.is_integer())
    expected = {"object": Mapping, "array": list, "string": str, "boolean": bool, "null": type(None)}[kind]
    return isinstance(value, expected)


def _name(path: Path) -> str:
    return ".".join(str(step) for step in path) or "the configuration"
