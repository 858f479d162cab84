"""The interface's document says what the code does, and the one that is checked in is the one that is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.esdk.catalog import list_endpoints
from agent.esdk.openapi import describe
from tests.fakes.esdk_gateway import EsdkGateway

CHECKED_IN = Path(__file__).parents[3] / "docs" / "esdk.openapi.json"
PAGE = Path(__file__).parents[3] / "docs" / "esdk.md"


async def test_the_checked_in_document_is_the_served_one(gateway: EsdkGateway) -> None:
    guard = await gateway.app("guard")
    status, served = await guard.get("/v1/openapi.json")
    await guard.close()
    assert status == 200
    assert served == json.loads(CHECKED_IN.read_bytes()), "run `python -m tests.fakes.write_openapi`"


async def test_every_endpoint_is_described_with_its_refusals(gateway: EsdkGateway) -> None:
    endpoints = list_endpoints(gateway.sockets._services)
    document = json.loads(describe(endpoints))
    assert document["openapi"] == "3.1.0"
    for endpoint in endpoints:
        operation = document["paths"][endpoint.path][endpoint.method.lower()]
        assert {"400", "401", "403", "429", "500"} <= operation["responses"].keys()
        assert str(endpoint.status) in operation["responses"]
        assert ("requestBody" in operation) == (endpoint.body is not None)
        assert operation["summary"]
    ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(ids) == len(set(ids))


async def test_every_reference_leads_somewhere(gateway: EsdkGateway) -> None:
    document = json.loads(describe(list_endpoints(gateway.sockets._services)))
    for reference in _references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


async def test_the_page_shows_a_call_for_every_endpoint(gateway: EsdkGateway) -> None:
    page = PAGE.read_text("utf-8")
    for endpoint in list_endpoints(gateway.sockets._services):
        assert endpoint.path.split("{")[0] in page, f"{endpoint.path} is not in docs/esdk.md"


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for value in node.values() for each in _references(value)]
    if isinstance(node, list):
        return [each for value in node for each in _references(value)]
    return []
