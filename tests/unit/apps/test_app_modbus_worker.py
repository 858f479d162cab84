"""The modbus APP against a real Modbus TCP server: polls, writes with read-back, outages, safe values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ec_modbus.latency import Latency
from ec_modbus.plan import read_device
from ec_modbus.worker import Worker, Write

from tests.unit.apps.modbus_recorder import Recorder, floats, until
from tests.unit.apps.modbus_server import ModbusServer, free_port

POINTS: list[dict[str, Any]] = [
    {"name": "boiler/temp", "address": {"register": 0, "type": "float32"}},
    {"name": "boiler/pressure", "address": {"register": 2, "type": "float32"}},
    {"name": "boiler/level", "address": {"register": 5, "table": "input", "scale": 0.1}},
    {"name": "boiler/valve", "address": {"register": 10}, "writable": True},
]


@contextmanager
def driving(
    port: int,
    points: list[dict[str, Any]] | None = None,
    *,
    heard_s: Callable[[], float] = time.monotonic,
    latency: Latency | None = None,
) -> Iterator[tuple[Worker, Recorder]]:
    body = {
        "name": "boiler",
        "address": {"host": "127.0.0.1", "port": port, "poll_s": 0.02},
        "points": points or POINTS,
    }
    device, mistakes = read_device(body, poll_s=1.0, timeout_s=0.5)
    assert device is not None
    assert not mistakes
    recorder = Recorder()
    worker = Worker(device, recorder, latency or Latency(), heard_s)
    worker.start()
    try:
        yield worker, recorder
    finally:
        worker.stop()
    assert worker.crash is None


def write(worker: Worker, command: str, value: Any, point: str = "boiler/valve") -> None:
    worker.submit(Write(command, point, value, time.monotonic()))


def test_values_of_all_tables_arrive_and_neighbours_cost_one_request() -> None:
    with ModbusServer() as server:
        server.set(0, *floats(65.5), *floats(5.25))
        server.set(5, 123)
        with driving(server.port) as (_, recorder):
            until(lambda: len(recorder.samples) >= 8)
            assert recorder.latest("boiler/temp")["v"] == 65.5
            assert recorder.latest("boiler/pressure")["v"] == 5.25
            assert recorder.latest("boiler/level")["v"] == 12.3
            assert recorder.latest("boiler/valve")["v"] == 0
        assert {(3, 0, 4), (4, 5, 1), (3, 10, 1)} == set(server.requests)
        assert recorder.reports[0][:2] == ("boiler", True)


def test_a_write_is_answered_after_the_register_was_read_back() -> None:
    latency = Latency()
    with ModbusServer() as server, driving(server.port, latency=latency) as (worker, recorder):
        write(worker, "c1", 40)
        until(lambda: "c1" in recorder.answers)
        assert recorder.answers["c1"] == (True, "")
        assert server.word(10) == 40
        until(lambda: recorder.latest("boiler/valve").get("v") == 40)
        assert latency.summary()["count"] == 1
        assert latency.summary()["p50_ms"] > 0


def test_a_write_that_the_device_ignores_is_answered_as_failed() -> None:
    with ModbusServer() as server:
        server.stuck.add(10)
        with driving(server.port) as (worker, recorder):
            write(worker, "c1", 40)
            until(lambda: "c1" in recorder.answers)
            assert recorder.answers["c1"] == (False, "boiler/valve: wrote 40, the register holds 0")


@pytest.mark.parametrize(
    ("point", "value", "said"),
    [
        ("boiler/temp", 1.0, "boiler/temp is not an output of boiler"),
        ("boiler/valve", 70_000, "does not fit uint16"),
        ("boiler/valve", "open", "is not a number"),
    ],
)
def test_an_impossible_write_is_refused_before_anything_is_sent(point: str, value: Any, said: str) -> None:
    with ModbusServer() as server, driving(server.port) as (worker, recorder):
        write(worker, "c1", value, point)
        until(lambda: "c1" in recorder.answers)
        ok, message = recorder.answers["c1"]
        assert not ok
        assert said in message
        assert not [request for request in server.requests if request[0] in (6, 16)]


def test_a_write_that_waited_too_long_is_not_done() -> None:
    with ModbusServer() as server, driving(server.port) as (worker, recorder):
        worker.submit(Write("c1", "boiler/valve", 40, time.monotonic() - 6))
        until(lambda: "c1" in recorder.answers)
        assert recorder.answers["c1"][0] is False
        assert "too late: it waited 6" in recorder.answers["c1"][1]
        assert server.word(10) == 0


def test_a_device_that_goes_away_is_reported_and_its_points_turn_bad_once_and_it_comes_back() -> None:
    port = free_port()
    with ModbusServer(port) as server:
        server.set(0, *floats(65.5))
        with driving(port) as (worker, recorder):
            until(lambda: recorder.latest("boiler/temp").get("v") == 65.5)
            server.stop()
            until(lambda: recorder.reports[-1][1] is False)
            until(lambda: recorder.latest("boiler/temp").get("q") == "bad")
            assert recorder.latest("boiler/temp")["v"] == 65.5
            write(worker, "c1", 1)
            until(lambda: "c1" in recorder.answers)
            assert recorder.answers["c1"][0] is False
            seen = len(recorder.samples)
            with ModbusServer(port) as again:
                again.set(0, *floats(66.5))
                until(lambda: recorder.latest("boiler/temp").get("v") == 66.5)
                assert recorder.reports[-1][1] is True
                assert recorder.reports[-1][2]["reconnects"] == 1
            bad = [s for s in recorder.samples[:seen] if s.get("q") == "bad"]
            assert sorted({s["p"] for s in bad}) == sorted(p["name"] for p in POINTS)
            assert len(bad) == len(POINTS)


def test_registers_that_the_device_does_not_have_turn_only_their_own_points_bad() -> None:
    with ModbusServer() as server:
        server.missing.add(5)
        with driving(server.port) as (_, recorder):
            until(lambda: recorder.latest("boiler/level"))
            until(lambda: recorder.latest("boiler/temp"))
            assert recorder.latest("boiler/level")["q"] == "bad"
            assert "q" not in recorder.latest("boiler/temp")
            until(lambda: len(server.requests) > 20)
            refused = [line for line in recorder.lines if line[1] == "read refused"]
            assert len(refused) == 1
            assert refused[0][2]["points"] == "boiler/level"


def test_the_safe_value_is_applied_once_when_the_gateway_goes_silent_and_not_before() -> None:
    points = [*POINTS[:3], {**POINTS[3], "safe": {"value": 7, "after_s": 0.3}}]
    heard = [time.monotonic()]
    talking = [True]

    def heard_s() -> float:
        if talking[0]:
            heard[0] = time.monotonic()
        return heard[0]

    with ModbusServer() as server, driving(server.port, points, heard_s=heard_s) as (worker, recorder):
        write(worker, "c1", 40)
        until(lambda: "c1" in recorder.answers)
        polls = len(server.requests)
        until(lambda: len(server.requests) > polls + 60)
        assert server.word(10) == 40
        talking[0] = False
        began = time.monotonic()
        until(lambda: server.word(10) == 7)
        assert time.monotonic() - began >= 0.2
        writes = [request for request in server.requests if request[0] == 6]
        assert len(writes) == 2
        write(worker, "c2", 50)
        until(lambda: "c2" in recorder.answers)
        assert server.word(10) == 50
        until(lambda: server.word(10) == 7)


def test_mistakes_in_addresses_are_all_named_and_the_other_points_run() -> None:
    body = {
        "name": "boiler",
        "address": {"host": "127.0.0.1", "port": 5020},
        "points": [
            {"name": "boiler/a", "address": {"register": -1}},
            {"name": "boiler/b", "address": {"register": 1, "tabel": "input"}},
            {"name": "boiler/c", "address": {"register": 2, "table": "input"}, "writable": True},
            {"name": "boiler/d", "address": {"register": 3}},
        ],
    }
    device, mistakes = read_device(body, poll_s=1.0, timeout_s=0.5)
    assert device is not None
    assert device.points == ("boiler/d", "boiler/c")
    assert [mistake.split(":")[0] for mistake in mistakes] == ["boiler/a", "boiler/b", "boiler/c"]


def test_a_device_that_cannot_be_reached_as_described_is_refused_with_every_mistake() -> None:
    device, mistakes = read_device(
        {"name": "boiler", "address": {"hots": "x", "port": 0, "unit": 300, "poll_s": 0}}, poll_s=1.0, timeout_s=0.5
    )
    assert device is None
    assert len(mistakes) == 5
