"""The modbus APP's set of devices: it follows the device files without a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from ec_modbus.driver import Defaults, Driver, DriverFault

from tests.unit.apps.modbus_recorder import Recorder, floats, until
from tests.unit.apps.modbus_server import ModbusServer


def body(name: str, port: int, register: int = 0, **address: Any) -> dict[str, Any]:
    return {
        "name": name,
        "address": {"host": "127.0.0.1", "port": port, "poll_s": 0.02, **address},
        "points": [
            {"name": f"{name}/temp", "address": {"register": register, "type": "float32"}},
            {"name": f"{name}/valve", "address": {"register": 10}, "writable": True},
        ],
    }


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def driver(recorder: Recorder) -> Iterator[Driver]:
    made = Driver(recorder, Defaults(poll_s=1.0, timeout_s=0.5), time.monotonic)
    yield made
    made.stop()


def test_devices_come_change_and_go_and_an_unchanged_one_is_left_alone(driver: Driver, recorder: Recorder) -> None:
    with ModbusServer() as one, ModbusServer() as two:
        one.set(0, *floats(1.0))
        two.set(0, *floats(2.0), *floats(2.5))
        driver.apply([body("a", one.port), body("b", two.port)])
        until(lambda: recorder.latest("a/temp") and recorder.latest("b/temp"))
        untouched = driver.devices["a"]
        driver.apply([body("a", one.port), body("b", two.port, register=2)])
        until(lambda: recorder.latest("b/temp").get("v") == 2.5)
        assert driver.devices["a"] is untouched
        assert [report[0] for report in recorder.reports].count("a") == 1
        driver.apply([body("a", one.port)])
        assert list(driver.devices) == ["a"]
        seen = len(two.requests)
        polled = len(one.requests)
        until(lambda: len(one.requests) > polled + 5)
        assert len(two.requests) == seen


def test_a_command_finds_the_device_of_its_point(driver: Driver, recorder: Recorder) -> None:
    with ModbusServer() as one, ModbusServer() as two:
        driver.apply([body("a", one.port), body("b", two.port)])
        driver.write({"id": "c1", "type": "write", "point": "b/valve", "value": 30})
        driver.write({"id": "c2", "type": "write", "point": "c/valve", "value": 30})
        until(lambda: len(recorder.answers) == 2)
        assert recorder.answers == {"c1": (True, ""), "c2": (False, "c/valve is not a point of this driver")}
        assert (one.word(10), two.word(10)) == (0, 30)
        assert driver.latency.count == 1


def test_a_mistake_is_said_once_and_again_when_it_changes(driver: Driver, recorder: Recorder) -> None:
    with ModbusServer() as server:
        for _ in range(2):
            driver.apply([body("a", server.port, register=-1), body("b", 0)])
        lines = [fields["mistake"] for _, event, fields in recorder.lines if event == "mistake in a device file"]
        assert lines == [
            "a/temp: register -1 is not a whole number from 0 to 65535",
            "b: port 0 is not a whole number from 1 to 65535",
        ]
        assert ("b", False) in [report[:2] for report in recorder.reports]
        assert list(driver.devices) == ["a"]


class Broken(Recorder):
    """A gateway whose part in this APP has a mistake."""

    def publish(self, samples: Sequence[Mapping[str, Any]]) -> None:
        raise RuntimeError("a mistake in the driver")


def test_a_worker_that_crashes_ends_the_app_instead_of_looking_alive() -> None:
    broken = Driver(Broken(), Defaults(poll_s=1.0, timeout_s=0.5), time.monotonic)
    with ModbusServer() as server:
        broken.apply([body("a", server.port)])
        until(lambda: _fault(broken))
        assert str(_fault(broken)) == "the worker of a crashed"
        broken.stop()


def _fault(driver: Driver) -> DriverFault | None:
    try:
        driver.check()
    except DriverFault as fault:
        return fault
    return None
