"""The interface as an OpenAPI 3.1 document, generated from the endpoints and their types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agent.esdk.endpoint import Endpoint
from agent.http.messages import EVENTS, JSON, PROBLEM

VERSION = "1.0.0"
PARAMETER = re.compile(r"\{(\w+)\}")
ALWAYS = (400, 401, 403, 408, 413, 429, 431, 500)
STATUS_TEXT = {
    400: "Malformed; `field` names the place where it can",
    401: "The process is not one of this APP's",
    403: "Not granted; `permission` names what is missing",
    404: "There is nothing of that name",
    408: "The request came too slowly",
    409: "Somebody else holds it",
    413: "Larger than the stated bound",
    429: "A quota is used up; see Retry-After",
    431: "The head is too large",
    500: "It was tried and failed, or the gateway made a mistake",
    503: "Whoever should do it is not there",
    504: "No answer in time",
    507: "The disk is full",
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; other fields depend on it.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
    },
    "additionalProperties": True,
}


def describe(endpoints: Iterable[Endpoint]) -> bytes:
    """The document as indented JSON, the same bytes for the same endpoints."""
    rows = list(endpoints)
    kinds = [kind for row in rows for kind in _kinds(row)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, by_kind)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "The gateway's resources for APPs",
            "version": VERSION,
            "description": "HTTP over the Unix socket /run/ec/esdk.sock inside an APP's containers.",
        },
        "servers": [{"url": "http://localhost"}],
        "tags": [{"name": name} for name in dict.fromkeys(row.category for row in rows)],
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(components.items())), "Problem": PROBLEM_SCHEMA},
            "responses": {
                str(status): {
                    "description": text,
                    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for status, text in STATUS_TEXT.items()
            },
        },
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _kinds(row: Endpoint) -> list[Any]:
    return [kind for kind in (row.body, row.answer, row.query, *row.events.values()) if kind is not None]


def _operation(row: Endpoint, by_kind: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    needs = row.permission or row.needs
    operation: dict[str, Any] = {
        "operationId": _operation_id(row),
        "tags": [row.category],
        "summary": row.summary,
        "description": f"Needs: {needs}." if needs else "Always allowed.",
        "parameters": [*_path_parameters(row), *_query_parameters(row)],
        "responses": {},
    }
    if row.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": by_kind[id(row.body)]}}}
    if row.events:
        events = {name: by_kind[id(kind)] for name, kind in row.events.items()}
        operation["responses"]["200"] = {
            "description": "Server-Sent Events: " + ", ".join(events),
            "content": {EVENTS: {"schema": {"type": "string"}}},
            "x-events": events,
        }
    else:
        operation["responses"][str(row.status)] = {
            "description": row.summary,
            "content": {JSON: {"schema": by_kind[id(row.answer)]}},
        }
    missing = (404,) if row.category == "points" else ()
    for status in sorted({*ALWAYS, *row.errors, *missing}):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    if not operation["parameters"]:
        del operation["parameters"]
    return operation


def _operation_id(row: Endpoint) -> str:
    words = [word for word in re.split(r"[^a-z]+", row.path.removeprefix("/v1/")) if word]
    return "_".join([row.method.lower(), *words])


def _path_parameters(row: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in PARAMETER.findall(row.path)
    ]


def _query_parameters(row: Endpoint) -> list[dict[str, Any]]:
    if row.query is None:
        return []
    _, components = msgspec.json.schema_components([row.query], ref_template="#/components/schemas/{name}")
    schema = components[row.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": kind}
        for name, kind in schema["properties"].items()
    ]
