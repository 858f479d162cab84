"""Points through the socket: samples in, values out, writes across, and nothing half done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.domain.alarm import Severity
from tests.fakes.esdk_gateway import GUARD, Caller, EsdkGateway
from tests.fakes.http_shop import until


async def test_a_batch_is_taken_and_its_latest_values_are_read(driver: Caller, guard: Caller) -> None:
    batch = [{"p": "boiler/temp", "v": 20.5, "t": 1_790_000_000_000}, {"p": "boiler/valve", "v": 7}]
    assert await driver.post("/v1/points", batch) == (200, {"accepted": 2})
    status, body = await guard.get("/v1/points?point=boiler/temp")
    assert status == 200
    assert body["points"][0]["v"] == 20.5
    assert body["points"][0]["unit"] == "°C"
    status, body = await guard.get("/v1/points?filter=boiler/%23")
    assert [(each["p"], each["v"]) for each in body["points"]] == [("boiler/temp", 20.5), ("boiler/valve", 7)]


async def test_one_sample_needs_no_list(driver: Caller, guard: Caller) -> None:
    assert await driver.post("/v1/points", {"p": "boiler/temp", "v": 21}) == (200, {"accepted": 1})
    assert (await guard.get("/v1/points"))[1]["points"][0]["v"] == 21


async def test_durable_answers_after_the_commit(gateway: EsdkGateway, guard: Caller) -> None:
    gateway.plane.alarms.raise_alarm("rule:x", "c", Severity.MINOR, "waits for its commit in the same outbox")
    assert await guard.post("/v1/points?durable=1", [{"p": "guard/count", "v": 1}]) == (200, {"accepted": 1})
    assert gateway.store.appends == 1


async def test_a_batch_with_one_mistake_changes_nothing(driver: Caller, guard: Caller) -> None:
    good = {"p": "boiler/temp", "v": 1.0}
    for bad in ({"p": "boiler/temp", "v": "warm"}, {"p": "meter/kwh", "v": 1.0}, {"p": "boiler/temp", "v": 1e301}):
        status, problem = await driver.post("/v1/points", [good, bad])
        assert status in (400, 403), problem
        assert problem["index"] == 1
    assert (await guard.get("/v1/points?point=boiler/temp"))[0] == 404


WRONG: dict[str, Any] = {
    "no JSON": b"{",
    "no body": b"",
    "not UTF-8": b'[{"p":"boiler/temp","v":"\xff"}]',
    "NaN": b'[{"p":"boiler/temp","v":NaN}]',
    "too large a number": b'[{"p":"boiler/temp","v":1e999}]',
    "unknown field": [{"p": "boiler/temp", "v": 1.0, "x": 1}],
    "no point": [{"v": 1.0}],
    "no value": [{"p": "boiler/temp"}],
    "value is null": [{"p": "boiler/temp", "v": None}],
    "value is a list": [{"p": "boiler/temp", "v": [1]}],
    "time is a text": [{"p": "boiler/temp", "v": 1.0, "t": "now"}],
    "time is negative": [{"p": "boiler/temp", "v": 1.0, "t": -1}],
    "unknown quality": [{"p": "boiler/temp", "v": 1.0, "q": "superb"}],
    "point is a number": [{"p": 7, "v": 1.0}],
    "a number": b"7",
    "nested to death": b"[" * 50_000,
    "another encoding": '[{"p":"boiler/temp","v":1.0}]'.encode("utf-16"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_body_is_400_and_the_next_request_is_served(driver: Caller, guard: Caller, name: str) -> None:
    status, problem = await driver.post("/v1/points", WRONG[name])
    assert (status, problem["code"].split(".")[0]) in {(400, "esdk"), (400, "sample")}, problem
    assert (await guard.get("/v1/points?point=boiler/temp"))[0] == 404
    assert (await driver.post("/v1/points", {"p": "boiler/temp", "v": 1.0}))[0] == 200


async def test_the_place_of_a_wrong_type_is_named(driver: Caller) -> None:
    _, problem = await driver.post("/v1/points", [{"p": "boiler/temp", "v": 1.0}, {"p": 7, "v": 1.0}])
    assert problem["field"] == "[1].p"


async def test_a_huge_batch_is_413(driver: Caller) -> None:
    assert (await driver.post("/v1/points", [{"p": "a", "v": 1}] * 10_001))[0] == 413
    assert (await driver.post("/v1/points", b" " * 1_100_000))[0] == 413


async def test_a_stream_begins_with_what_is_and_goes_on_with_what_comes(driver: Caller, guard: Caller) -> None:
    await driver.post("/v1/points", {"p": "boiler/temp", "v": 1.0})
    await guard.open_stream("/v1/points/stream?filter=boiler/temp&initial=1")
    assert [(await guard.event())[1]["v"]] == [1.0]
    await driver.post("/v1/points", [{"p": "boiler/temp", "v": 2.0}, {"p": "boiler/valve", "v": 3}])
    await driver.post("/v1/points", {"p": "boiler/temp", "v": 4.0})
    assert [(await guard.event())[1]["v"] for _ in range(2)] == [2.0, 4.0]


async def test_a_reader_that_left_is_forgotten(gateway: EsdkGateway, guard: Caller) -> None:
    await guard.open_stream("/v1/points/stream")
    assert len(gateway.plane.streams) == 1
    await guard.close()
    await until(lambda: len(gateway.plane.streams) == 0)


async def test_a_write_reaches_the_owner_and_answers_with_its_word(
    gateway: EsdkGateway, driver: Caller, guard: Caller
) -> None:
    await driver.open_stream("/v1/commands/stream")
    writing = asyncio.create_task(guard.post("/v1/points/write", {"point": "boiler/valve", "value": 50}))
    name, command = await driver.event()
    assert name == "command"
    assert command["address"] == {"register": 10, "table": "holding"}
    assert command["safe"] == {"value": 0, "after_s": 5.0}
    assert (command["point"], command["value"], command["who"]) == ("boiler/valve", 50, "app:guard")
    await _answer(gateway, command["id"], {"ok": True, "message": "read back 50"})
    status, body = await writing
    assert (status, body["message"]) == (200, "read back 50")


async def test_a_write_that_the_owner_refuses_is_a_problem(gateway: EsdkGateway, driver: Caller, guard: Caller) -> None:
    await driver.open_stream("/v1/commands/stream")
    writing = asyncio.create_task(guard.post("/v1/points/write", {"point": "boiler/valve", "value": 50}))
    _, command = await driver.event()
    await _answer(gateway, command["id"], {"ok": False, "message": "the motor is hot"})
    status, problem = await writing
    assert (status, problem["code"]) == (500, "esdk.write_failed")
    assert "the motor is hot" in problem["title"]


async def test_a_write_without_a_listener_is_503(guard: Caller) -> None:
    assert (await guard.post("/v1/points/write", {"point": "boiler/valve", "value": 50}))[0] == 503


async def test_a_write_outside_the_limits_is_403_and_never_reaches_the_driver(driver: Caller, guard: Caller) -> None:
    await driver.open_stream("/v1/commands/stream")
    status, problem = await guard.post("/v1/points/write", {"point": "boiler/valve", "value": 101})
    assert (status, problem["code"]) == (403, "point.limits")


async def test_a_driver_that_dies_fails_the_write_at_once(gateway: EsdkGateway, driver: Caller, guard: Caller) -> None:
    await driver.open_stream("/v1/commands/stream")
    writing = asyncio.create_task(guard.post("/v1/points/write", {"point": "boiler/valve", "value": 50}))
    await driver.event()
    await driver.close()
    status, problem = await writing
    assert status == 500
    assert "went away" in problem["title"]
    assert not gateway.plane.writes.listening("modbus-1")


async def test_an_answer_nobody_waits_for_is_404(driver: Caller, guard: Caller) -> None:
    assert (await guard.post("/v1/commands/1-1", {"ok": True}))[0] == 404
    assert (await driver.post("/v1/commands/..%2Fx", {}))[0] == 404


async def test_a_second_listener_takes_over_and_the_first_is_told(gateway: EsdkGateway, driver: Caller) -> None:
    await driver.open_stream("/v1/commands/stream")
    second = await gateway.app("modbus-1")
    await second.open_stream("/v1/commands/stream")
    assert (await driver.event())[0] == "end"
    assert gateway.plane.writes.listening("modbus-1")
    await second.close()


async def test_fewer_grants_end_the_streams_that_had_more(gateway: EsdkGateway, guard: Caller) -> None:
    await guard.open_stream("/v1/points/stream")
    await gateway.open(replace(GUARD, grants=replace(GUARD.grants, points_read=())))
    assert await guard.raw.at_end()
    again = await gateway.app("guard")
    assert (await again.get("/v1/points/stream"))[0] == 403
    await again.close()


async def _answer(gateway: EsdkGateway, command_id: str, body: dict[str, Any]) -> None:
    """From another connection of the driver's: the first is busy with its stream."""
    other = await gateway.app("modbus-1")
    assert (await other.post(f"/v1/commands/{command_id}", body))[0] == 200
    await other.close()
