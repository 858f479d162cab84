"""devices.d: what devices and points become, and every mistake a technician makes in them."""

from __future__ import annotations

import pytest

from agent.domain.priority import Priority
from agent.domain.sample import DeviceConfig, PointConfig, SafeValue, WriteLimits
from tests.unit.files.parts import codes, mistakes, read

BOILER = """
devices:
  boiler:
    driver: modbus-1
    port: rs485-1
    address: {host: 198.51.100.2, port: 5020, unit: 1, poll_s: 0.2}
    points:
      temp: {address: {register: 0, table: holding}, type: float, unit: "°C", range: [0, 150], resolution: 0.1,
             deadband: 0.5, max_interval: 60s, window: 10s, priority: bulk}
      valve: {address: {register: 10}, type: int, write: {min: 0, max: 100}, safe: {value: 0, after: 5s}}
      pump: {type: bool, write: true}
      bare:
"""


def point(entry: str) -> str:
    return f"devices:\n  d:\n    driver: m\n    points:\n      p: {entry}\n"


def test_a_device_becomes_a_device_with_points_under_its_name() -> None:
    (device,) = read("devices", BOILER).items
    assert isinstance(device, DeviceConfig)
    assert (device.name, device.driver, device.port, device.source) == ("boiler", "modbus-1", "rs485-1", "f.yaml:3")
    assert dict(device.address) == {"host": "198.51.100.2", "port": 5020, "unit": 1, "poll_s": 0.2}
    temp, valve, pump, bare = device.points
    assert temp == PointConfig(
        name="boiler/temp",
        device="boiler",
        unit="°C",
        range=(0, 150),
        resolution=0.1,
        deadband=0.5,
        max_interval_s=60.0,
        window_s=10.0,
        priority=Priority.BULK,
        address=(("register", 0), ("table", "holding")),
        source="f.yaml:8",
    )
    assert (valve.writable, valve.limits, valve.safe) == (True, WriteLimits(0, 100), SafeValue(0, 5.0))
    assert (pump.writable, pump.limits, pump.type) == (True, WriteLimits(), "bool")
    assert (bare.writable, bare.type, bare.name) == (False, "float", "boiler/bare")


def test_a_device_claims_its_own_name_and_those_of_its_points() -> None:
    names = [claim.name for claim in read("devices", BOILER).claims]
    assert names == ["device 'boiler'", *(f"point 'boiler/{name}'" for name in ("temp", "valve", "pump", "bare"))]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "{rang: [0, 1]}",
            "f.yaml:5:11: unknown key 'rang' in 'devices.d.points.p'; did you mean 'range'?",
        ),
        (
            "{range: [10, 0]}",
            "f.yaml:5:18: 'range' goes from 10 to 0; write [lowest, highest]",
        ),
        (
            "{deadband: -1}",
            "f.yaml:5:21: 'devices.d.points.p.deadband' is -1, less than 0; allowed: a number, at least 0",
        ),
        (
            "{range: [0, 10], deadband: 10}",
            "f.yaml:5:37: 'deadband' is 10; the range spans 10; every change would be swallowed",
        ),
        (
            "{resolution: 0}",
            "f.yaml:5:23: 'devices.d.points.p.resolution' is 0, not above 0; allowed: a number above 0",
        ),
        (
            "{type: double}",
            "f.yaml:5:17: 'devices.d.points.p.type' is 'double'; allowed: float, int, bool, string",
        ),
        (
            "{priority: hihg}",
            "f.yaml:5:21: 'devices.d.points.p.priority' is 'hihg'; allowed: critical, normal, bulk",
        ),
        (
            "{window: 10}",
            (
                "f.yaml:5:19: 'devices.d.points.p.window' is 10, not a duration; "
                "write a number and its unit: 500ms, 10s, 5m, 2h or 1d"
            ),
        ),
        (
            "{window: 0s}",
            (
                "f.yaml:5:19: 'devices.d.points.p.window' is '0s', no time at all; "
                "write a number and its unit: 500ms, 10s, 5m, 2h or 1d"
            ),
        ),
        (
            "{range: [0]}",
            "f.yaml:5:18: 'devices.d.points.p.range' has too few values; allowed: [lowest, highest] that the sensor can give",
        ),
        (
            "{type: bool, range: [0, 1]}",
            "f.yaml:5:30: 'range' means nothing for type bool; remove it, or mend the type",
        ),
        (
            "{write: {min: 5, max: 1}}",
            "f.yaml:5:18: 'write' goes from 5 to 1; write {min: lowest, max: highest}",
        ),
        (
            "{write: yes please}",
            "f.yaml:5:18: 'devices.d.points.p.write' is 'yes please', not a mapping; write true, or {min: 0, max: 100}",
        ),
        (
            "{range: [0, 10], write: {max: 20}}",
            "f.yaml:5:40: 'write.max' is 20, outside the point's range; allowed: 0 to 10",
        ),
        (
            "{write: {max: 5}, safe: {value: 9, after: 1s}}",
            "f.yaml:5:42: 'safe.value' is 9, outside the write limits; allowed: at most 5",
        ),
        (
            "{type: int, write: true, safe: {value: 1.5, after: 1s}}",
            "f.yaml:5:49: 'safe.value' is 1.5, not of type int; write a value of the point's type",
        ),
        (
            "{safe: {value: 1, after: 1s}}",
            "f.yaml:5:17: 'safe' is given for a point that cannot be written; add write: {min, max}",
        ),
        (
            "{write: true, safe: {value: 1}}",
            (
                "f.yaml:5:24: 'after' is missing in 'devices.d.points.p.safe'; "
                "how long rule, writer or agent may be silent before"
            ),
        ),
        (
            "{address: {register: [1]}}",
            (
                "f.yaml:5:31: 'devices.d.points.p.address.register' is a list, not one value; "
                "write a number, true, false or a text"
            ),
        ),
        (
            "[1]",
            "f.yaml:5:10: 'devices.d.points.p' is a list, not a mapping; write one 'key: value' a line, indented below it",
        ),
    ],
)
def test_a_mistake_in_a_point_is_named_with_its_place(entry: str, expected: str) -> None:
    assert mistakes("devices", point(entry)) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "devices: {d: {points: {}}}",
            "f.yaml:1:11: 'driver' is missing in 'devices.d'; the APP instance that talks to it",
        ),
        (
            "devices: {'b/x': {driver: m}}",
            "f.yaml:1:11: the name is 'b/x', not a device's name; use 1 to 64 of A-Z a-z 0-9 _ . -",
        ),
        (
            "devices: {d: {driver: m, points: {'a b': {}}}}",
            (
                "f.yaml:1:35: the name is 'a b', not a point's name; "
                "use 1 to 64 of A-Z a-z 0-9 _ . - and '/' between at most 7 parts"
            ),
        ),
        (
            "devices: {d: {driver: Modbus}}",
            (
                "f.yaml:1:23: 'devices.d.driver' is 'Modbus', not an instance's name; "
                "use 1 to 63 of a-z 0-9 - and begin with a letter or digit"
            ),
        ),
        ("device: {}", "f.yaml:1:1: unknown key 'device' in the file; did you mean 'devices'?"),
        ("{}", "f.yaml:1:1: 'devices' is missing in the file; devices, by name"),
    ],
)
def test_a_mistake_in_a_device_is_named_with_its_place(text: str, expected: str) -> None:
    assert expected in mistakes("devices", text)


def test_every_mistake_of_a_file_comes_at_once_from_top_to_bottom() -> None:
    text = """
devices:
  a:
    driver: m
    points:
      k: {deadband: -1}
      m: {tpye: int}
  b:
    drivr: m
    points: {z: {window: soon}}
"""
    found = [line.split(" ")[0] for line in mistakes("devices", text)]
    assert found == ["f.yaml:6:21:", "f.yaml:7:11:", "f.yaml:9:5:", "f.yaml:10:26:"]


def test_a_misspelt_key_is_one_mistake_and_not_a_missing_one_too() -> None:
    assert codes("devices", "devices: {d: {drivr: m}}") == ["devices.unknown_key"]
    assert codes("devices", "devices: {d: {zzz: m}}") == ["devices.missing_key", "devices.unknown_key"]


def test_mistakes_between_keys_come_all_at_once_too() -> None:
    text = "devices: {d: {driver: m, points: {a: {range: [1, 0]}, b: {safe: {value: 1, after: 1s}}}}}"
    assert codes("devices", text) == ["devices.range_inverted", "devices.not_writable"]


def test_a_misspelt_key_in_one_point_does_not_hide_a_contradiction_in_another() -> None:
    text = "devices: {d: {driver: m, points: {a: {rnge: [1, 0]}, b: {range: [1, 0]}}}, e: {}}"
    assert codes("devices", text) == ["devices.unknown_key", "devices.range_inverted", "devices.missing_key"]


def test_numbers_that_are_none_are_refused() -> None:
    for entry in ("{deadband: .nan}", "{deadband: .inf}", "{range: [0, .inf]}", "{write: {max: .nan}}"):
        assert mistakes("devices", point(entry)) != []
