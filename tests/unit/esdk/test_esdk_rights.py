"""Default deny: each refusal names what is missing, and never whether the thing is there."""

from __future__ import annotations

from typing import Any

import pytest

from agent.esdk.catalog import list_endpoints
from tests.fakes.esdk_gateway import Caller, EsdkGateway

REFUSED: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/gateway", None, "gateway"),
    ("GET", "/v1/alarms", None, "alarms"),
    ("POST", "/v1/alarms", {"code": "x"}, "alarms"),
    ("DELETE", "/v1/alarms/x", None, "alarms"),
    ("POST", "/v1/points", {"p": "boiler/temp", "v": 1.0}, "points.publish"),
    ("POST", "/v1/points", {"p": "not/there", "v": 1.0}, "points.publish"),
    ("GET", "/v1/points", None, "points.read"),
    ("GET", "/v1/points?point=boiler/temp", None, "points.read"),
    ("GET", "/v1/points?point=not/there", None, "points.read"),
    ("GET", "/v1/points?filter=%23", None, "points.read"),
    ("GET", "/v1/points/stream", None, "points.read"),
    ("GET", "/v1/points/stream?filter=boiler/%23", None, "points.read"),
    ("POST", "/v1/points/write", {"point": "boiler/valve", "value": 1}, "points.write"),
    ("POST", "/v1/points/write", {"point": "not/there", "value": 1}, "points.write"),
    ("POST", "/v1/devices/report", {"device": "boiler", "online": True}, "devices"),
    ("POST", "/v1/devices/report", {"device": "nothing", "online": True}, "devices"),
    ("POST", "/v1/uplink/events", {"name": "x"}, "uplink"),
    ("GET", "/v1/uplink/events/x", None, "uplink"),
]


@pytest.mark.parametrize(("method", "path", "body", "permission"), REFUSED)
async def test_without_a_grant_it_is_403_and_the_grant_is_named(
    nobody: Caller, method: str, path: str, body: Any, permission: str
) -> None:
    status, problem = await nobody.ask(method, path, body)
    assert (status, problem["code"], problem["permission"]) == (403, "esdk.not_granted", permission)


async def test_a_thing_that_is_there_and_one_that_is_not_are_refused_in_the_same_words(nobody: Caller) -> None:
    for path in ("/v1/points?point=", "/v1/points/stream?filter="):
        there = (await nobody.get(path + "boiler/temp"))[1]
        gone = (await nobody.get(path + "boiler/xxxx"))[1]
        assert str(there).replace("temp", "xxxx") == str(gone)


async def test_every_endpoint_is_either_always_allowed_or_refused_here(gateway: EsdkGateway) -> None:
    """A new endpoint that needs a grant must be added to the table above."""
    listed = {(method, path.split("?")[0]) for method, path, _, _ in REFUSED}
    for endpoint in list_endpoints(gateway.sockets._services):
        if endpoint.permission or (endpoint.needs and "driver` in" not in endpoint.needs):
            shape = endpoint.path.replace("{code}", "x").replace("{id}", "x")
            assert (endpoint.method, shape) in listed, endpoint.path


async def test_a_filter_wider_than_the_grant_is_refused(guard: Caller) -> None:
    for path in ("/v1/points?filter=%23", "/v1/points?filter=%2B/temp", "/v1/points/stream?filter=%23"):
        status, problem = await guard.get(path)
        assert (status, problem["permission"]) == (403, "points.read"), path
    assert (await guard.get("/v1/points?filter=boiler/%2B"))[0] == 200


async def test_without_a_filter_one_sees_what_was_granted_and_no_more(gateway: EsdkGateway, guard: Caller) -> None:
    driver = await gateway.app("modbus-1")
    await driver.post("/v1/points", {"p": "boiler/temp", "v": 1.0})
    await guard.post("/v1/points", {"p": "guard/secret", "v": 1.0})
    assert [each["p"] for each in (await guard.get("/v1/points"))[1]["points"]] == ["boiler/temp"]
    await driver.close()


async def test_a_point_of_another_app_cannot_be_published_even_within_the_filter(
    gateway: EsdkGateway, guard: Caller
) -> None:
    status, problem = await guard.post("/v1/points", [{"p": "pump/speed", "v": 1}, {"p": "meter/kwh", "v": 1.0}])
    assert (status, problem["permission"], problem["index"]) == (403, "points.publish", 1)
    assert gateway.plane.table.latest("pump/speed") is None


async def test_an_event_of_a_priority_that_was_not_granted_is_refused(guard: Caller) -> None:
    status, problem = await guard.post("/v1/uplink/events", {"name": "x", "priority": "bulk"})
    assert (status, problem["permission"], problem["priority"]) == (403, "uplink", "bulk")
    assert (await guard.post("/v1/uplink/events", {"name": "x", "priority": "normal"}))[0] == 202
