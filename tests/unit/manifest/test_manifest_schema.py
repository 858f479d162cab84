"""The schema of an APP's configuration: small, stated and true."""

from __future__ import annotations

import json

import pytest

from agent.domain.app import Layer
from agent.domain.document import Mistakes
from agent.domain.manifest_schema import check_schema, check_value, defaults
from agent.domain.values import LayerFrom, layer_values
from tests.unit.manifest.kit import SMALL, manifest_of, problems_of, release_of

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["mqtt"],
    "properties": {
        "mqtt": {
            "type": "object",
            "properties": {
                "host": {"type": "string", "minLength": 1, "pattern": "^[a-z.]+$"},
                "port": {"type": "integer", "minimum": 1, "maximum": 65535, "default": 1883},
            },
        },
        "mode": {"enum": ["fast", "slow"], "default": "slow"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"mqtt": {"host": "a.b", "port": 1}, "mode": "fast", "tags": ["x"]}, []),
        ({"mqtt": {"port": 2.0}}, []),
        ({}, ["mqtt is missing"]),
        ({"mqtt": 5}, ["mqtt is the number 5, it must be of type object"]),
        ({"mqtt": {"port": 0}}, ["mqtt.port has 0, at least 1"]),
        ({"mqtt": {"port": True}}, ["mqtt.port is true, it must be of type integer"]),
        ({"mqtt": {"port": float("nan")}}, ["mqtt.port is the number nan, it must be of type integer"]),
        ({"mqtt": {"host": ""}}, ["mqtt.host has 0 characters, at least 1", "mqtt.host is the text '', it must match"]),
        ({"mqtt": {}, "mode": "odd"}, ["mode is the text 'odd', allowed: fast, slow"]),
        ({"mqtt": {}, "tags": ["a", "b", "c"]}, ["tags has 3 entries, at most 2"]),
        ({"mqtt": {}, "tags": ["a", 5]}, ["tags.1 is the number 5"]),
        ({"mqtt": {}, "mod": "fast"}, ["unknown key 'mod'; did you mean 'mode'?"]),
    ],
)
def test_a_configuration_fits_or_every_misfit_is_said(value: object, wrong: list[str]) -> None:
    said = [words for _, words in check_value(SCHEMA, value)]
    assert len(said) == len(wrong), said
    for words, start in zip(said, wrong, strict=True):
        assert words.startswith(start)


def test_the_schemas_own_defaults_make_the_first_layer() -> None:
    assert defaults(SCHEMA) == {"mqtt": {"port": 1883}, "mode": "slow"}


@pytest.mark.parametrize(
    ("schema", "path", "said"),
    [
        ({"type": "object", "anyOf": []}, ("anyOf",), "keyword 'anyOf' is not known here"),
        (
            {"type": "object", "properties": {"a": {"tpye": "string"}}},
            ("properties", "a", "tpye"),
            "did you mean 'type'?",
        ),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, ("properties", "a", "type"), "type is one of"),
        ({"type": "object", "properties": {"a": {"pattern": "(("}}}, ("properties", "a", "pattern"), "no regular"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "default": 5}}},
            ("properties", "a", "default"),
            "not fit",
        ),
        ({"type": "object", "properties": {"a": {"minimum": "x"}}}, ("properties", "a", "minimum"), "is a number"),
        ({"type": "object", "properties": {"a": {"minLength": -1}}}, ("properties", "a", "minLength"), "whole number"),
        ({"type": "object", "required": "a"}, ("required",), "list of names"),
        ({"type": "object", "properties": {"a": 5}}, ("properties", "a"), "a schema is a mapping"),
        ({"type": "object", "properties": {"a": {"enum": []}}}, ("properties", "a", "enum"), "list of values"),
        ({"type": "array"}, ("type",), "must have type: object"),
    ],
)
def test_a_check_that_would_not_be_made_is_a_mistake_in_the_schema(
    schema: object, path: tuple[str, ...], said: str
) -> None:
    ((where, words),) = check_schema(schema)
    assert where == path
    assert said in words


def test_an_inline_schemas_mistake_stands_where_it_is_written() -> None:
    text = SMALL + "x-ec:\n  config:\n    schema:\n      type: object\n      properties:\n        a: {tpye: string}\n"
    (problem,) = problems_of(text)
    assert (problem.code, problem.mark.line, problem.mark.col) == ("manifest.schema", 10, 19)


REFERRING = SMALL + "x-ec: {config: {schema: config.schema.json}}\n"


def test_a_schema_file_belongs_to_the_release() -> None:
    release = release_of(REFERRING, {"config.schema.json": json.dumps(SCHEMA), "other": "x"})
    assert list(release.files) == ["config.schema.json"]
    assert release.manifest.schema == SCHEMA
    changed = release_of(REFERRING, {"config.schema.json": json.dumps({**SCHEMA, "title": "x"})})
    assert changed.hash != release.hash
    effective, problems = layer_values(
        release.manifest, [LayerFrom("site", Layer(config={"mqtt": {"host": "a.b"}}))], release.files
    )
    assert problems == ()
    assert effective.config == {"mqtt": {"port": 1883, "host": "a.b"}, "mode": "slow"}


@pytest.mark.parametrize(
    ("files", "code", "where"),
    [
        ({}, "manifest.file_missing", ("app.yaml", 5, 25)),
        ({"config.schema.json": "{\n  oops"}, "manifest.schema", ("config.schema.json", 2, 3)),
        ({"config.schema.json": "[" * 100_000}, "manifest.schema", ("config.schema.json", 1, 1)),
        ({"config.schema.json": "5"}, "manifest.schema", ("config.schema.json", 1, 1)),
        ({"config.schema.json": " " * 300_000}, "manifest.too_long", ("config.schema.json", 1, 1)),
    ],
)
def test_a_schema_file_that_cannot_be_used_makes_no_release(
    files: dict[str, str], code: str, where: tuple[str, int, int]
) -> None:
    with pytest.raises(Mistakes) as caught:
        release_of(REFERRING, files)
    problem = caught.value.problems[0]
    assert problem.code == code
    assert (problem.source, problem.mark.line, problem.mark.col) == where
    manifest = manifest_of(REFERRING)
    _, problems = layer_values(manifest, [], files)
    assert problems[0].code == code
