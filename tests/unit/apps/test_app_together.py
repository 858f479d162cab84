"""modbus and pump-guard as processes, on the real eSDK and data plane, before the lab's Modbus TCP device."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient

from agent.domain.alarm import Severity
from agent.domain.appview import AppView
from agent.domain.expression import compile_condition
from agent.domain.grants import Grants
from agent.domain.priority import Priority
from agent.domain.rule import AlarmAction, ClearAction, RuleConfig, WriteAction
from agent.domain.sample import DeviceConfig, PointConfig, SafeValue, WriteLimits
from deploy.lab.process import Child, free_port, wait_until
from deploy.lab.reactions import percentile, read_reactions
from tests.fakes.esdk_gateway import EsdkGateway, esdk_gateway

ROOT = Path(__file__).parents[3]
MODBUS = AppView("modbus-1", "a" * 64, "1.0.0", ("driver",), Grants(points_publish=("modbus-1/#",)))
GUARD = AppView(
    "guard",
    "b" * 64,
    "1.4.0",
    ("guard",),
    Grants(
        points_read=("boiler/pressure",),
        points_write=("boiler/valve",),
        points_publish=("guard/#",),
        alarms=True,
        uplink=(Priority.CRITICAL, Priority.NORMAL),
    ),
)
RULE = RuleConfig(
    "overpressure",
    (("pressure", "boiler/pressure"),),
    "pressure.value > 6.5",
    then=(WriteAction("boiler/valve", 0), AlarmAction("overpressure", Severity.MAJOR)),
    otherwise=(WriteAction("boiler/valve", 100), ClearAction("overpressure")),
)


# The first expression loads a library from disk: not on an event loop.
compile_condition(RULE.when, RULE.aliases)


class Device:
    """The plant's process and a second master that sets its force register."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "plant.jsonl"
        argv = [sys.executable, "-m", "deploy.lab.plant", "--port", str(self.port), "--log", str(self.log)]
        self.process = Child("plant", argv, folder / "plant.log", cwd=ROOT)
        wait_until(lambda: "listening" in self.process.tail(), "the plant listens", 20, child=self.process)
        self._master = ModbusTcpClient("127.0.0.1", port=self.port, timeout=2, retries=0)

    def force(self, bar: float) -> None:
        """Hold the pressure there; 0 lets it go."""
        assert not self._master.write_register(20, round(bar * 100)).isError()

    def valve(self) -> int:
        """What the valve's register holds."""
        return int(self._master.read_holding_registers(10, count=1).registers[0])

    def writes(self) -> list[int]:
        """All values written to the valve, in order."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [e["after"] for e in entries if e["event"] == "write" and e["register"] == "valve"]

    def end(self) -> None:
        self._master.close()  # type: ignore[no-untyped-call]
        self.process.end()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.end()


@pytest.fixture
async def gateway(short_dir: Path) -> AsyncIterator[EsdkGateway]:
    async with esdk_gateway(short_dir) as made:
        yield made


def boiler(port: int, *, safe: SafeValue | None = None) -> DeviceConfig:
    """The plant as its device file says."""
    points = (
        PointConfig("boiler/temp", "boiler", "modbus-1", "float", address=(("register", 0), ("type", "float32"))),
        PointConfig("boiler/pressure", "boiler", "modbus-1", "float", address=(("register", 2), ("type", "float32"))),
        PointConfig(
            "boiler/valve",
            "boiler",
            "modbus-1",
            "int",
            writable=True,
            limits=WriteLimits(0, 100),
            safe=safe,
            address=(("register", 10),),
        ),
    )
    return DeviceConfig("boiler", "modbus-1", "", (("host", "127.0.0.1"), ("port", port), ("poll_s", 0.02)), points)


@contextmanager
def app(gateway: EsdkGateway, package: str, folder: str, view: AppView, **environ: str) -> Iterator[Child]:
    """An APP's process with the environment that its container gets."""
    env = {
        "PYTHONPATH": f"{ROOT / 'apps' / folder}:{ROOT / 'apps/sdk'}",
        "EC_APP": view.instance,
        "EC_ESDK": str(gateway.sockets.path(view.instance)),
        "BEAT_FILE": str(gateway.root / f"{view.instance}.beat"),
        **environ,
    }
    with Child(view.instance, [sys.executable, "-m", package], gateway.root / f"{view.instance}.log", env=env) as child:
        yield child


async def until(holds: Callable[[], Any], what: str, child: Child, within_s: float = 20.0) -> None:
    """Poll with a deadline, on the loop that serves the gateway."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert child.alive, f"{child.name} ended before {what}:\n{child.tail()}"
        assert time.monotonic() < deadline, f"not in time: {what}\n{child.tail()}"
        await asyncio.sleep(0.01)


def value(gateway: EsdkGateway, point: str) -> Any:
    latest = gateway.plane.table.latest(point)
    return None if latest is None else latest.value


async def test_a_rule_moves_the_register_in_the_device_and_back_and_it_is_measured(
    gateway: EsdkGateway, device: Device
) -> None:
    gateway.plane.configure([boiler(device.port)], (), [RULE])
    await gateway.open(MODBUS)
    with app(gateway, "ec_modbus", "modbus", MODBUS) as child:
        await until(lambda: value(gateway, "boiler/pressure"), "a pressure arrives", child)
        await until(lambda: gateway.plane.devices.status("boiler")["online"], "the device is online", child)
        assert 40 < value(gateway, "boiler/temp") < 120
        for round_ in range(5):
            await asyncio.to_thread(device.force, 7.5)
            await until(lambda n=round_: len(read_reactions(device.log)) == 2 * n + 1, "the valve closes", child)  # type: ignore[misc]
            await asyncio.to_thread(device.force, 0)
            await until(lambda n=round_: len(read_reactions(device.log)) == 2 * n + 2, "the valve opens", child)  # type: ignore[misc]
        assert device.writes()[-10:] == [0, 100] * 5
        reactions = read_reactions(device.log)
        assert [reaction.way for reaction in reactions] == ["above", "below"] * 5
        assert all(0 < reaction.from_read_ms <= reaction.from_change_ms for reaction in reactions)
        assert percentile([reaction.from_change_ms for reaction in reactions], 99) < 5000
        await until(lambda: value(gateway, "boiler/valve") == 100, "the written value comes back as a sample", child)
        await until(lambda: value(gateway, "modbus-1/write_count"), "the APP publishes its own figures", child)
        assert value(gateway, "modbus-1/write_p50_ms") <= value(gateway, "modbus-1/write_p99_ms")
        assert (gateway.root / "modbus-1.beat").exists()
        assert child.end() == 0


async def test_a_changed_device_file_acts_without_a_restart(gateway: EsdkGateway, device: Device) -> None:
    gateway.plane.configure([boiler(free_port())], (), ())
    await gateway.open(MODBUS)
    with app(gateway, "ec_modbus", "modbus", MODBUS) as child:
        await until(lambda: gateway.plane.devices.status("boiler")["online"] is False, "it is reported offline", child)
        gateway.plane.configure([boiler(device.port)], (), ())
        await until(lambda: gateway.plane.devices.status("boiler")["online"], "the right address is used", child)
        answer = await gateway.plane.writes.write("boiler/valve", 30, origin="local", who="test")
        assert answer.ok
        assert await asyncio.to_thread(device.valve) == 30
        plant = boiler(device.port)
        gateway.plane.configure([replace(plant, points=plant.points[:1])], (), ())
        await until(lambda: "boiler/pressure" not in gateway.plane.table.states, "the point is gone", child)
        assert child.alive


async def test_the_outputs_are_made_safe_when_the_gateway_falls_silent_and_the_driver_comes_back(
    gateway: EsdkGateway, device: Device
) -> None:
    gateway.plane.configure([boiler(device.port, safe=SafeValue(7, 2.0))], (), ())
    await gateway.open(MODBUS)
    with app(gateway, "ec_modbus", "modbus", MODBUS) as child:
        await until(lambda: gateway.plane.devices.status("boiler")["online"], "the device is online", child)
        await gateway.plane.writes.write("boiler/valve", 80, origin="local", who="test")
        beat_s = time.monotonic()
        await until(lambda: time.monotonic() - beat_s > 3.0, "signs of life keep the output", child)
        assert await asyncio.to_thread(device.valve) == 80
        await gateway.sockets.close("modbus-1", remove=False)
        await until(lambda: device.writes()[-1] == 7, "the safe value is in the register", child)
        await gateway.open(MODBUS)
        await until(lambda: gateway.plane.writes.listening("modbus-1"), "the driver listens again", child)
        answer = await gateway.plane.writes.write("boiler/valve", 60, origin="local", who="test")
        assert answer.ok
        assert await asyncio.to_thread(device.valve) == 60


async def test_pump_guard_closes_the_valve_and_says_so_upward_at_once(gateway: EsdkGateway, device: Device) -> None:
    gateway.plane.configure([boiler(device.port)], (), ())
    await gateway.open(MODBUS, GUARD)
    with (
        app(gateway, "ec_modbus", "modbus", MODBUS) as driver,
        app(gateway, "ec_pump_guard", "pump-guard", GUARD, LIMIT_BAR="6.5") as guard,
    ):
        await until(lambda: value(gateway, "boiler/pressure"), "a pressure arrives", driver)
        await until(lambda: value(gateway, "guard/opening"), "the guard has moved the valve", guard)
        await asyncio.to_thread(device.force, 7.5)
        await until(lambda: device.writes()[-1] == 0, "the valve closes", guard)
        await until(lambda: gateway.plane.alarms.is_active("app:guard", "overpressure"), "the alarm stands", guard)
        events = [json.loads(row.payload) for row in gateway.store.rows.values() if row.kind == "event"]
        (event,) = [event for event in events if event.get("name") == "overpressure"]
        assert event["app"] == "guard"
        assert event["data"]["pressure"] == 7.5
        await asyncio.to_thread(device.force, 0)
        await until(lambda: not gateway.plane.alarms.is_active("app:guard", "overpressure"), "the alarm clears", guard)
        assert device.writes()[-1] > 0
        assert (guard.end(), driver.end()) == (0, 0)


async def test_a_guard_without_its_grant_ends_loudly(gateway: EsdkGateway) -> None:
    await gateway.open(replace(GUARD, grants=Grants()))
    with app(gateway, "ec_pump_guard", "pump-guard", GUARD) as guard:
        deadline = time.monotonic() + 20
        while guard.alive:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert guard.exit_code == 1
        assert "points.read" in guard.tail(40)
