"""Everything but points: what each category answers, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent.domain.alarm import Severity
from agent.domain.priority import Priority
from agent.errors import NoSpace
from agent.esdk.alarms import MAX_STANDING
from agent.ports import Stored
from tests.fakes.esdk_gateway import BOILER, GUARD, METER, NOBODY, Caller, EsdkGateway


async def test_self_says_what_the_app_is_may_and_uses(guard: Caller) -> None:
    status, body = await guard.get("/v1/self")
    assert status == 200
    assert (body["instance"], body["version"], body["services"]) == ("guard", "1.4.0", ["guard"])
    assert body["grants"] == {
        "points": {"read": ["boiler/#"], "write": ["boiler/valve"], "publish": ["guard/#", "pump/speed"]},
        "alarms": True,
        "gateway": True,
        "uplink": ["critical", "normal"],
    }
    assert body["limits"] == {"guard": {"cpus": 0.5, "mem_bytes": 67_108_864, "pids": 64}}
    assert body["use"]["requests"] == 1
    assert body["use"]["services"] == {"guard": {"mem_bytes": 1234}}


async def test_a_heartbeat_is_noted_for_a_service_that_is_there(gateway: EsdkGateway, guard: Caller) -> None:
    assert await guard.post("/v1/self/heartbeat", {}) == (200, {"service": "guard"})
    assert (await guard.post("/v1/self/heartbeat", {"service": "other"}))[0] == 400
    assert (await guard.get("/v1/self"))[1]["heartbeat_age_s"].keys() == {"guard"}
    assert gateway.sockets.stats()["guard"]["heartbeat_age_s"]["guard"] < 5


async def test_a_promised_heartbeat_that_stays_away_is_late_until_the_service_starts_anew(
    gateway: EsdkGateway, guard: Caller
) -> None:
    assert (await guard.post("/v1/self/heartbeat", {"next_within_s": 0.01}))[0] == 200
    async with asyncio.timeout(10):
        while not gateway.sockets.late("guard"):
            await asyncio.sleep(0.01)
    assert gateway.sockets.late("guard").keys() == {"guard"}
    gateway.sockets.restarted("guard", "guard")
    assert gateway.sockets.late("guard") == {}


async def test_a_heartbeat_in_time_or_without_a_promise_is_never_late(gateway: EsdkGateway, guard: Caller) -> None:
    await guard.post("/v1/self/heartbeat", {"next_within_s": 0.01})
    await guard.post("/v1/self/heartbeat", {"next_within_s": 3600})
    await asyncio.sleep(0.05)
    assert gateway.sockets.late("guard") == {}
    await guard.post("/v1/self/heartbeat", {"next_within_s": 0.01})
    await guard.post("/v1/self/heartbeat", {})
    await asyncio.sleep(0.05)
    assert gateway.sockets.late("guard") == {}, "the last one promised nothing"
    assert gateway.sockets.late("nobody") == {}


@pytest.mark.parametrize("wrong", [-1, 86_401, "soon", None, [1]])
async def test_a_promise_that_is_none_is_refused(gateway: EsdkGateway, guard: Caller, wrong: object) -> None:
    assert (await guard.post("/v1/self/heartbeat", {"next_within_s": wrong}))[0] == 400
    assert gateway.sockets.stats()["guard"]["heartbeat_age_s"] == {}


async def test_the_gateway_is_measured_once_however_many_ask(gateway: EsdkGateway, guard: Caller) -> None:
    for _ in range(4):
        await guard.get("/v1/gateway")
    status, body = await guard.get("/v1/gateway")
    assert (status, body["facts"]["model"], body["usage"]["cpu_percent"]) == (200, "EC-1", 97.5)
    assert body["over"] == ["cpu_percent"]
    assert gateway.host.measured == 1


async def test_a_driver_sees_its_own_devices_with_points_and_addresses(driver: Caller, guard: Caller) -> None:
    _, body = await driver.get("/v1/devices")
    device = body["devices"][0]
    assert [each["name"] for each in body["devices"]] == ["boiler"]
    assert (device["address"], device["online"]) == ({"host": "198.51.100.2", "port": 5020}, None)
    valve = device["points"][1]
    assert valve["name"] == "boiler/valve"
    assert valve["address"] == {"register": 10, "table": "holding"}
    assert (valve["writable"], valve["limits"], valve["safe"]) == (
        True, {"min": 0, "max": 100}, {"value": 0, "after_s": 5.0}
    )  # fmt: skip
    assert (await guard.get("/v1/devices"))[1]["devices"] == []


async def test_a_changed_device_file_reaches_its_driver_and_nobody_else(gateway: EsdkGateway, driver: Caller) -> None:
    await driver.open_stream("/v1/devices/stream")
    assert [each["name"] for each in (await driver.event())[1]["devices"]] == ["boiler"]
    gateway.plane.configure([BOILER, replace(METER, port="rs485-2")], (), ())
    gateway.plane.configure([replace(BOILER, port="rs485-1"), METER], (), ())
    assert (await driver.event())[1]["devices"][0]["port"] == "rs485-1"


async def test_a_driver_reports_its_devices(gateway: EsdkGateway, driver: Caller) -> None:
    report = {"device": "boiler", "online": False, "stats": {"requests": 10, "failures": 3}}
    assert await driver.post("/v1/devices/report", report) == (200, {"reports": 1})
    assert gateway.plane.devices.status("boiler")["online"] is False
    assert (await driver.get("/v1/devices"))[1]["devices"][0]["stats"] == {"requests": 10, "failures": 3}
    assert gateway.plane.alarms.is_active("device:boiler", "device.offline")


async def test_reports_with_one_foreign_device_change_nothing(gateway: EsdkGateway, driver: Caller) -> None:
    reports = [{"device": "boiler", "online": True}, {"device": "meter", "online": True}]
    status, problem = await driver.post("/v1/devices/report", reports)
    assert (status, problem["code"]) == (403, "esdk.not_granted")
    assert gateway.plane.devices.status("boiler")["online"] is None
    unknown = await driver.post("/v1/devices/report", {"device": "nothing", "online": True})
    assert unknown[1] | {"title": ""} == problem | {"title": ""}, "whether it exists must not show"


async def test_the_configuration_changes_without_a_restart(gateway: EsdkGateway, guard: Caller) -> None:
    await guard.open_stream("/v1/config/stream")
    assert (await guard.event())[1] == {"version": 1, "config": {"limit": 6.5}}
    await gateway.open(replace(GUARD, version="1.4.1"))
    await gateway.open(replace(GUARD, config={"limit": 7.0}))
    assert (await guard.event())[1] == {"version": 2, "config": {"limit": 7.0}}
    again = await gateway.app("guard")
    assert (await again.get("/v1/config"))[1]["config"] == {"limit": 7.0}
    await again.close()


async def test_alarms_are_raised_listed_and_cleared_by_their_app_only(
    gateway: EsdkGateway, guard: Caller, driver: Caller
) -> None:
    gateway.plane.alarms.raise_alarm("app:guard/guard", "crash_loop", Severity.MAJOR, "the supervisor's own")
    status, alarm = await guard.post("/v1/alarms", {"code": "blind", "message": "no pressure", "severity": "minor"})
    assert (status, alarm["code"], alarm["severity"], alarm["count"]) == (200, "blind", "minor", 1)
    assert gateway.store.rows, "the answer comes after the commit"
    assert (await guard.post("/v1/alarms", {"code": "blind"}))[1]["count"] == 2
    assert [each["code"] for each in (await guard.get("/v1/alarms"))[1]["alarms"]] == ["blind"]
    assert (await driver.get("/v1/alarms"))[1]["alarms"] == []
    assert (await driver.ask("DELETE", "/v1/alarms/blind"))[0] == 404
    assert (await guard.ask("DELETE", "/v1/alarms/crash_loop"))[0] == 404
    assert await guard.ask("DELETE", "/v1/alarms/blind") == (200, {"code": "blind"})
    assert (await guard.get("/v1/alarms"))[1]["alarms"] == []
    assert gateway.plane.alarms.is_active("app:guard/guard", "crash_loop")


async def test_an_app_may_have_so_many_alarms_and_the_gateways_own_are_not_held_up(
    gateway: EsdkGateway, guard: Caller
) -> None:
    for number in range(MAX_STANDING):
        gateway.plane.alarms.raise_alarm("app:guard", f"c{number}", Severity.MINOR, "m")
    status, problem = await guard.post("/v1/alarms", {"code": "one-more"})
    assert (status, problem["code"]) == (429, "esdk.too_many_alarms")
    assert (await guard.post("/v1/alarms", {"code": "c7"}))[1]["count"] == 2
    assert len(gateway.plane.alarms.active()) == MAX_STANDING
    gateway.plane.alarms.raise_alarm("engine", "unreachable", Severity.MAJOR, "the gateway's own")
    assert gateway.plane.alarms.is_active("engine", "unreachable")


@pytest.mark.parametrize(
    "body",
    [
        {"code": "a/b"},
        {"code": ""},
        {"code": "x" * 65},
        {"code": "x", "severity": "bad"},
        {"message": "x"},
        {"code": 1},
    ],
)
async def test_a_wrong_alarm_is_400_and_none_is_raised(gateway: EsdkGateway, guard: Caller, body: Any) -> None:
    assert (await guard.post("/v1/alarms", body))[0] == 400
    assert gateway.plane.alarms.active() == []


async def test_an_event_is_on_disk_before_the_answer_and_its_fate_is_told(gateway: EsdkGateway, guard: Caller) -> None:
    status, fate = await guard.post("/v1/uplink/events", {"name": "leak", "data": {"bar": 7.1}, "ttl_s": 3600})
    assert (status, fate["state"]) == (202, "stored")
    stored = next(iter(gateway.store.rows.values()))
    payload = json.loads(stored.payload)
    assert (stored.priority, stored.kind) == (Priority.CRITICAL, "event")
    assert payload["type"] == "event"
    assert (payload["app"], payload["name"], payload["data"], payload["id"]) == (
        "guard", "leak", {"bar": 7.1}, fate["id"]
    )  # fmt: skip
    assert payload["expires"] == fate["expires"]
    assert (await guard.get(f"/v1/uplink/events/{fate['id']}"))[1]["state"] == "stored"
    gateway.desk.sent(stored)
    assert (await guard.get(f"/v1/uplink/events/{fate['id']}"))[1]["state"] == "sent"


async def test_an_event_sent_after_its_time_is_late(gateway: EsdkGateway, guard: Caller) -> None:
    _, fate = await guard.post("/v1/uplink/events", {"name": "leak", "ttl_s": 0.001})
    stored = next(iter(gateway.store.rows.values()))
    while gateway.desk._clock.now_ms() <= fate["expires"]:
        pass
    gateway.desk.sent(stored)
    assert (await guard.get(f"/v1/uplink/events/{fate['id']}"))[1]["state"] == "late"


async def test_the_fate_of_an_event_is_found_after_a_restart_of_the_agent(gateway: EsdkGateway, guard: Caller) -> None:
    payload = msgspec.json.encode({"type": "event", "id": "old", "app": "guard", "name": "x", "data": None})
    gateway.desk.sent(Stored(1, "s", Priority.CRITICAL, "live", 1, "event", payload, 1, 5))
    assert (await guard.get("/v1/uplink/events/old"))[1]["state"] == "sent"


async def test_the_fate_of_anothers_event_cannot_be_told_from_one_that_never_was(
    gateway: EsdkGateway, guard: Caller
) -> None:
    _, fate = await guard.post("/v1/uplink/events", {"name": "leak"})
    await gateway.open(replace(NOBODY, grants=replace(NOBODY.grants, uplink=(Priority.BULK,))))
    nobody = await gateway.app("nobody")
    real = await nobody.get(f"/v1/uplink/events/{fate['id']}")
    never = await nobody.get("/v1/uplink/events/ffffffffffffffff")
    assert (real[0], real[1]["code"]) == (never[0], never[1]["code"]) == (404, "esdk.no_event")
    await nobody.close()


async def test_a_full_disk_is_told_and_the_event_is_not_remembered(gateway: EsdkGateway, guard: Caller) -> None:
    gateway.store.failing = NoSpace("store.full", "the disk is full", hint="make room")
    status, problem = await guard.post("/v1/uplink/events", {"name": "leak"})
    assert (status, problem["code"]) == (507, "store.full")
    gateway.store.failing = None


async def test_an_event_too_large_is_413(guard: Caller) -> None:
    assert (await guard.post("/v1/uplink/events", {"name": "x", "data": "y" * 65_536}))[0] == 413


async def test_log_lines_reach_the_apps_own_file(gateway: EsdkGateway, guard: Caller) -> None:
    lines = [{"message": "hello", "level": "warning", "fields": {"bar": 7}}, {"message": "again", "t": 5}]
    assert await guard.post("/v1/log", lines) == (200, {"lines": 2})
    assert await guard.post("/v1/log", {"message": "alone"}) == (200, {"lines": 1})
    written = [json.loads(line) for line in await gateway.logs.tail("guard", 10)]
    assert [line["message"] for line in written] == ["hello", "again", "alone"]
    assert (written[0]["level"], written[0]["fields"], written[1]["t"]) == ("warning", {"bar": 7}, 5)


async def test_a_log_line_cannot_forge_another(gateway: EsdkGateway, guard: Caller) -> None:
    await guard.post("/v1/log", {"message": 'x"}\n{"message":"forged'})
    assert len(await gateway.logs.tail("guard", 10)) == 1
    assert (await guard.post("/v1/log", {"message": "x", "fields": {"a": "b" * 9000}}))[0] == 413


async def test_what_is_not_offered_is_named_as_such(guard: Caller) -> None:
    for path in ("/v1/serial", "/v1/kv/x", "/v1/messages", "/v2/points", "/", "/v1/network"):
        status, problem = await guard.get(path)
        assert (status, problem["code"]) == (404, "esdk.not_offered")
        assert problem["offered"] == [
            "alarms", "commands", "config", "devices", "gateway", "log", "points", "self", "uplink"
        ]  # fmt: skip


async def test_an_unknown_query_and_a_repeated_one_are_400(guard: Caller) -> None:
    for path in (
        "/v1/self?x=1",
        "/v1/points?nope=1",
        "/v1/points?limit=1&limit=2",
        "/v1/points?limit=0",
        "/v1/points?limit=x",
    ):
        assert (await guard.get(path))[0] == 400, path


async def test_a_page_of_points_says_that_there_is_more(gateway: EsdkGateway, guard: Caller, driver: Caller) -> None:
    await driver.post("/v1/points", [{"p": "boiler/temp", "v": 1.0}, {"p": "boiler/valve", "v": 2}])
    _, first = await guard.get("/v1/points?limit=1")
    assert ([each["p"] for each in first["points"]], first["more"]) == (["boiler/temp"], True)
    _, second = await guard.get("/v1/points?limit=1&after=boiler/temp")
    assert ([each["p"] for each in second["points"]], second["more"]) == (["boiler/valve"], False)
