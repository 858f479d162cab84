"""Alarms: one key, one episode, told before it is forgotten; and the devices that raise some."""

from __future__ import annotations

import pytest

from agent.data.alarms import FLAP_EPISODES
from agent.domain.alarm import Severity
from agent.domain.priority import Priority
from agent.domain.sample import DeviceConfig
from agent.errors import Failed, Malformed, NotFound, Refused
from tests.unit.data.parts import BOILER, Rig

MAJOR, CRITICAL, MINOR = Severity.MAJOR, Severity.CRITICAL, Severity.MINOR


async def test_an_episode_is_told_once_however_often_it_is_raised() -> None:
    rig = Rig()
    book = rig.plane.alarms
    for _ in range(50):
        book.raise_alarm("app:meter", "port.gone", MAJOR, "the port is gone")
    (alarm,) = book.active()
    assert (alarm.key, alarm.count) == ("app:meter/port.gone", 50)
    assert book.clear_alarm("app:meter", "port.gone") is not None
    assert book.clear_alarm("app:meter", "port.gone") is None
    book.raise_alarm("app:meter", "port.gone", MAJOR, "again")
    told = [(item["state"], item["key"]) for item in await rig.sent(Priority.CRITICAL)]
    assert told == [(state, "app:meter/port.gone") for state in ("raise", "clear", "raise")]


async def test_a_worse_severity_is_told_again() -> None:
    rig = Rig()
    rig.plane.alarms.raise_alarm("s", "c", MINOR, "m")
    rig.plane.alarms.raise_alarm("s", "c", CRITICAL, "m")
    rig.plane.alarms.raise_alarm("s", "c", MINOR, "m")
    assert [item["severity"] for item in await rig.sent()] == ["minor", "critical"]


async def test_acknowledging_is_told_once_and_leaves_it_active() -> None:
    rig = Rig()
    rig.plane.alarms.raise_alarm("s", "c", MINOR, "m")
    rig.plane.alarms.acknowledge("s/c")
    assert rig.plane.alarms.acknowledge("s/c").acknowledged_ms
    assert [item["state"] for item in await rig.sent()] == ["raise", "acknowledge"]
    assert rig.plane.alarms.is_active("s", "c")
    with pytest.raises(NotFound):
        rig.plane.alarms.acknowledge("s/other")


async def test_what_stands_survives_a_restart_and_a_cleared_one_does_not() -> None:
    rig = Rig()
    rig.plane.alarms.raise_alarm("s", "stays", MINOR, "m")
    rig.plane.alarms.raise_alarm("s", "goes", MINOR, "m")
    rig.plane.alarms.clear_alarm("s", "goes")
    await rig.plane.alarms.settled()
    again = Rig(alarm_store=rig.alarm_store)
    await again.plane.start()
    assert [alarm.code for alarm in again.plane.alarms.active()] == ["stays"]
    again.plane.alarms.raise_alarm("s", "stays", MINOR, "m")
    assert await again.sent() == [], "the same episode goes on"


async def test_an_alarm_is_in_the_outbox_before_it_is_in_the_store() -> None:
    rig = Rig()
    rig.store.failing = Failed("store.failed", "the disk is gone")
    rig.plane.alarms.raise_alarm("s", "c", MINOR, "m")
    with pytest.raises(Failed):
        await rig.plane.outbox.flushed()
    assert rig.alarm_store.alarms == {}
    rig.store.failing = None
    await rig.plane.alarms.settled()
    assert list(rig.alarm_store.alarms) == ["s/c"]
    assert len(rig.store.rows) == 1


async def test_many_counts_cost_few_saves() -> None:
    rig = Rig()
    for _ in range(1000):
        rig.plane.alarms.raise_alarm("s", "c", MINOR, "m")
    await rig.plane.alarms.settled()
    assert rig.alarm_store.saves <= 2
    assert rig.alarm_store.alarms["s/c"].count == 1000


async def test_the_worst_comes_first_and_a_source_that_is_gone_takes_its_own_along() -> None:
    rig = Rig()
    rig.plane.alarms.raise_alarm("app:noisy", "c1", MINOR, "m")
    rig.plane.alarms.raise_alarm("app:noisy", "c2", MINOR, "m")
    rig.plane.alarms.raise_alarm("app:other", "c", MAJOR, "m")
    assert [each.source for each in rig.plane.alarms.active()] == ["app:other", "app:noisy", "app:noisy"]
    rig.plane.alarms.clear_source("app:noisy")
    assert [each.source for each in rig.plane.alarms.active()] == ["app:other"]


async def test_a_flapping_alarm_stands_until_it_is_quiet_and_the_uplink_is_not_flooded() -> None:
    rig = Rig()
    book = rig.plane.alarms
    for _ in range(500):
        rig.timers.advance(0.01)
        book.raise_alarm("s", "c", MINOR, "m")
        book.clear_alarm("s", "c")
    assert book.is_active("s", "c")
    assert len(await rig.sent()) == 2 * FLAP_EPISODES - 1
    rig.timers.advance(9.0)
    book.raise_alarm("s", "c", MINOR, "m")
    book.clear_alarm("s", "c")
    rig.timers.advance(9.0)
    assert book.is_active("s", "c")
    rig.timers.advance(2.0)
    assert not book.is_active("s", "c")
    assert [item["state"] for item in await rig.sent()][-2:] == ["raise", "clear"]
    rig.timers.advance(60.0)
    book.raise_alarm("s", "c", MINOR, "m")
    assert book.clear_alarm("s", "c") is not None


async def test_a_device_offline_is_one_alarm_and_each_change_an_event() -> None:
    rig = Rig().configure()
    for online in (True, False, False, True):
        rig.timers.advance(1)
        rig.plane.devices.report("modbus-1", "boiler", online, {"polls": 10, "errors": 1})
    events = await rig.sent(Priority.NORMAL)
    assert [(event["type"], event["name"], event["online"]) for event in events] == [
        ("device", "boiler", True), ("device", "boiler", False), ("device", "boiler", True)
    ]  # fmt: skip
    assert [item["state"] for item in await rig.sent(Priority.CRITICAL)] == ["raise", "clear"]
    status = rig.plane.devices.status("boiler")
    assert (status["state"], status["stats"]["polls"], status["driver"]) == ("online", 10, "modbus-1")


async def test_only_the_driver_sees_and_reports_its_devices() -> None:
    rig = Rig().configure()
    assert [device.name for device in rig.plane.devices.devices("modbus-1")] == ["boiler"]
    assert rig.plane.devices.devices("stranger") == []
    for instance, device in (("stranger", "boiler"), ("modbus-1", "nothing")):
        with pytest.raises(Refused) as refused:
            rig.plane.devices.report(instance, device, True)
        assert refused.value.code == "device.not_driver"
    with pytest.raises(Malformed):
        rig.plane.devices.report("modbus-1", "boiler", True, {f"n{n}": 1 for n in range(100)})
    assert rig.plane.devices.status("boiler")["state"] == "unknown"


async def test_a_device_that_is_removed_takes_its_alarm_along() -> None:
    rig = Rig().configure()
    version = rig.plane.devices.version
    rig.plane.devices.report("modbus-1", "boiler", False)
    rig.configure(devices=[DeviceConfig("other", "modbus-1")])
    assert rig.plane.alarms.active() == []
    assert rig.plane.devices.version == version + 1
    with pytest.raises(NotFound):
        rig.plane.devices.status(BOILER.name)
