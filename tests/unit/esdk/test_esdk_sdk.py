"""The Python client against the real server: everything it promises, and that it comes back after a restart."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from ecsdk import Batch, Client, Command, Driver, EsdkError, Safe, Sample, Unavailable
from ecsdk.records import read_device

from agent.domain.sample import SafeValue
from tests.fakes.esdk_gateway import BOILER, DRIVER, GUARD, EsdkGateway
from tests.fakes.http_shop import until

T = TypeVar("T")


@asynccontextmanager
async def client_of(gateway: EsdkGateway, instance: str) -> AsyncIterator[Client]:
    client = Client(str(gateway.sockets.path(instance)), timeout_s=5.0, patience_s=5.0)
    yield client
    client.close()


async def off(call: Callable[..., T], *args: object, **more: object) -> T:
    """Call the client in a thread: the server runs on this loop."""
    return await asyncio.to_thread(call, *args, **more)


async def test_samples_go_in_and_come_out(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver, client_of(gateway, "guard") as guard:
        sent = await off(
            driver.points.send, [("boiler/temp", 20.5), Sample("boiler/valve", 7), {"p": "boiler/temp", "v": 21.0}]
        )
        assert sent == 3
        values = await off(guard.points.latest, "boiler/temp")
        assert [(each.p, each.v, each.unit) for each in values] == [("boiler/temp", 21.0, "°C")]
        assert [each.p for each in await off(guard.points.latest, filters=["boiler/#"])] == [
            "boiler/temp",
            "boiler/valve",
        ]
        assert await off(driver.points.send, [("boiler/temp", 1.0)], durable=True) == 1


async def test_a_refusal_is_an_error_with_code_and_hint(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "guard") as guard:
        with pytest.raises(EsdkError) as caught:
            await off(guard.points.send, [("boiler/temp", 1.0)])
        assert (caught.value.status, caught.value.code) == (403, "esdk.not_granted")
        assert "permissions.points.publish" in caught.value.hint
        assert caught.value.retry_after_s == 0.0


async def test_a_command_is_served_and_the_writer_gets_the_word(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver, client_of(gateway, "guard") as guard:
        seen: list[Command] = []

        def do(command: Command) -> str:
            seen.append(command)
            if command.value == 13:
                raise ValueError("unlucky")
            return f"read back {command.value}"

        commands = driver.commands.watch()
        commands.each(lambda command: driver.commands.respond(command, do))
        await until(lambda: gateway.plane.writes.listening("modbus-1"))
        written = await off(guard.points.write, "boiler/valve", 50)
        assert written.message == "read back 50"
        assert seen[0].address == {"register": 10, "table": "holding"}
        assert seen[0].safe == Safe(0, 5.0)
        with pytest.raises(EsdkError, match="unlucky"):
            await off(guard.points.write, "boiler/valve", 13)
        assert await off(driver.commands.answer, "1-1") is False
        commands.close()


async def test_a_listener_whose_stream_was_taken_comes_back_and_serves(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver, client_of(gateway, "guard") as guard:
        commands = driver.commands.watch()
        serving = commands.each(lambda command: driver.commands.respond(command, lambda c: f"first {c.value}"))
        await until(lambda: gateway.plane.writes.listening("modbus-1"))
        other = gateway.plane.writes.attach("modbus-1")
        await until(lambda: other.ended, within_s=10)
        assert (await off(guard.points.write, "boiler/valve", 50)).message == "first 50"
        commands.close()
        await off(serving.join, 5)
        assert not serving.is_alive()


async def test_devices_config_alarms_events_and_log(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver, client_of(gateway, "guard") as guard:
        boiler = (await off(driver.devices))[0]
        assert (boiler.name, boiler.address["port"], boiler.points[1].safe) == ("boiler", 5020, Safe(0, 5.0))
        assert (boiler.points[1].low, boiler.points[1].high) == (0, 100)
        await off(driver.devices.report, "boiler", True, {"requests": 1})
        assert gateway.plane.devices.status("boiler")["online"] is True
        assert await off(guard.config.get) == {"limit": 6.5}
        assert (await off(guard.alarms.raise_, "hot", "too hot", "minor")).severity == "minor"
        assert [each.code for each in await off(guard.alarms.list)] == ["hot"]
        assert await off(guard.alarms.clear, "hot") is True
        assert await off(guard.alarms.clear, "hot") is False
        fate = await off(guard.uplink.event, "leak", {"bar": 7}, priority="normal")
        assert (await off(guard.uplink.fate, fate.id)).state == "stored"
        await off(guard.log, "info", "hello", a=1)
        assert len(await gateway.logs.tail("guard", 5)) == 1
        assert (await off(guard.self_))["instance"] == "guard"
        await off(guard.heartbeat)
        assert (await off(guard.gateway))["facts"]["model"] == "EC-1"


async def test_a_stream_can_be_awaited_and_ends_when_closed(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "guard") as guard:
        stream = guard.config.watch()
        seen = []
        async for config in stream:
            seen.append(config)
            if len(seen) == 2:
                break
            await gateway.open(replace(GUARD, config={"limit": 7.0}))
        assert seen == [{"limit": 6.5}, {"limit": 7.0}]
        await until(lambda: gateway.sockets.session("guard").meter.streams == 0)  # type: ignore[union-attr]


async def test_a_stream_without_the_grant_raises_and_does_not_try_for_ever(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver:
        with pytest.raises(EsdkError) as caught:
            await off(next, iter(driver.points.watch("boiler/#")))
        assert caught.value.status == 403


async def test_streams_come_back_after_a_restart_with_what_is_now(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver, client_of(gateway, "guard") as guard:
        await off(driver.points.send, [("boiler/temp", 1.0)])
        seen: queue.Queue[Sample] = queue.Queue()
        stream = guard.points.watch("boiler/temp")
        stream.each(seen.put)
        assert (await off(seen.get, timeout=5)).v == 1.0
        await gateway.sockets.close("guard")
        await until(lambda: not stream.connected)
        await off(driver.points.send, [("boiler/temp", 2.0)])
        await gateway.open(GUARD)
        assert (await off(seen.get, timeout=5)).v == 2.0
        stream.close()


async def test_a_request_waits_for_a_gateway_that_restarts(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver:
        await off(driver.points.send, [("boiler/temp", 1.0)])
        await gateway.sockets.close("modbus-1")
        sending = asyncio.create_task(off(driver.points.send, [("boiler/temp", 2.0)]))
        await asyncio.sleep(0.1)
        assert not sending.done()
        await gateway.open(DRIVER)
        assert await sending == 1


async def test_nobody_there_is_unavailable_after_the_patience(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "none.sock"), patience_s=0.2)
    with pytest.raises(Unavailable):
        await off(client.self_)


async def test_a_batch_gathers_and_sends_together(gateway: EsdkGateway) -> None:
    async with client_of(gateway, "modbus-1") as driver:
        with driver.points.batch(every_s=60.0, size=100) as batch:
            for number in range(250):
                batch.add("boiler/temp", float(number))
            counted = gateway.plane.ingest.counts
            await until(lambda: "modbus-1" in counted and counted["modbus-1"].samples >= 200)
            await off(batch.close)
        counts = gateway.plane.ingest.counts["modbus-1"]
        assert (counts.samples, batch.dropped) == (250, 0)
        assert counts.batches <= 6


def test_a_batch_keeps_the_newest_while_the_gateway_is_away_and_counts_the_rest() -> None:
    away, sent = threading.Event(), list[float]()
    away.set()

    def send(samples: object) -> int:
        if away.is_set():
            raise Unavailable("away")
        sent.extend(float(each.v) for each in samples)  # type: ignore[attr-defined]
        return 0

    batch = Batch(send, every_s=60.0, size=10, waiting=30)
    for number in range(100):
        batch.add("a", float(number))
    away.clear()
    batch.close()
    assert sent == [float(number) for number in range(70, 100)]
    assert batch.dropped == 70


def test_a_batch_that_is_refused_is_dropped_and_not_sent_again() -> None:
    tried = []

    def send(samples: object) -> int:
        tried.append(samples)
        raise EsdkError(403, {"code": "esdk.not_granted", "title": "no"})

    batch = Batch(send, every_s=60.0, size=10, waiting=30)
    batch.add("a", 1.0)
    batch.close()
    assert (len(tried), batch.dropped) == (1, 1)
    assert batch.refused is not None


class Bench:
    """A driver without a gateway, on a clock turned by hand."""

    def __init__(self, tmp_path: Path, **more: object) -> None:
        self.now_s = 100.0
        self.done: list[tuple[str, object]] = []
        self.refusing = False
        client = Client(str(tmp_path / "none.sock"), patience_s=0.0)
        self.driver = Driver(client, self.write, self.apply_safe, now=lambda: self.now_s, **more)  # type: ignore[arg-type]
        points = [
            {
                "name": "boiler/valve", "address": {}, "type": "int", "unit": "", "range": None, "resolution": None,
                "writable": True, "limits": {"min": 0, "max": 100}, "safe": {"value": 0, "after_s": 5.0},
            }
        ]  # fmt: skip
        self.devices = [read_device({"name": "boiler", "port": "", "address": {}, "online": None, "points": points})]

    def write(self, command: Command) -> None:
        self.done.append(("write", command.value))

    def apply_safe(self, point: str, value: object) -> None:
        if self.refusing:
            raise OSError("the wire is cut")
        self.done.append(("safe", value))

    def after(self, seconds: float) -> list[tuple[str, object]]:
        """What was done until then."""
        self.now_s += seconds
        self.driver.check()
        done, self.done = self.done, []
        return done


COMMAND = Command("1", "boiler/valve", 50, 0, safe=Safe(0, 5.0))


def test_an_output_becomes_safe_once_after_its_silence(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.driver.configure(bench.devices)
    bench.driver.handle(COMMAND)
    assert bench.after(4.9) == [("write", 50)]
    assert bench.after(0.2) == [("safe", 0)]
    assert bench.after(60.0) == []


def test_each_write_begins_the_silence_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.driver.configure(bench.devices)
    for _ in range(4):
        bench.driver.handle(COMMAND)
        assert bench.after(4.0) == [("write", 50)]
    assert bench.after(1.1) == [("safe", 0)]
    bench.driver.handle(COMMAND)
    assert bench.after(5.1) == [("write", 50), ("safe", 0)]


def test_a_driver_that_starts_and_hears_nothing_makes_its_outputs_safe(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.driver.configure(bench.devices)
    assert bench.after(4.9) == []
    assert bench.after(0.2) == [("safe", 0)]


def test_a_safe_value_that_cannot_be_applied_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.driver.configure(bench.devices)
    bench.refusing = True
    assert bench.after(6.0) == []
    bench.refusing = False
    assert bench.after(1.0) == [("safe", 0)]


def test_with_silence_of_the_gateway_its_sign_of_life_is_enough(tmp_path: Path) -> None:
    bench = Bench(tmp_path, silence="gateway")
    bench.driver.configure(bench.devices)
    bench.driver._commands.heard_s = 104.0
    assert bench.after(8.9) == []
    assert bench.after(0.2) == [("safe", 0)]


def test_changed_files_change_the_watch_and_do_not_restart_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.driver.configure(bench.devices)
    bench.now_s += 4.0
    bench.driver.configure(bench.devices)
    assert bench.after(1.1) == [("safe", 0)]
    bench.driver.configure([])
    assert bench.after(100.0) == []


async def test_a_driver_serves_and_makes_safe_when_the_agent_is_gone(gateway: EsdkGateway) -> None:
    valve = replace(BOILER.points[1], safe=SafeValue(0, 0.4))
    quick = replace(BOILER, points=(BOILER.points[0], valve))
    gateway.plane.configure([quick], (), ())
    done: queue.Queue[tuple[str, object]] = queue.Queue()
    async with client_of(gateway, "modbus-1") as mine, client_of(gateway, "guard") as guard:
        driver = Driver(mine, lambda c: done.put(("write", c.value)), lambda point, value: done.put((point, value)))
        thread = threading.Thread(target=driver.run, daemon=True)
        thread.start()
        await until(lambda: gateway.plane.writes.listening("modbus-1"))
        await off(guard.points.write, "boiler/valve", 50)
        await gateway.sockets.close("modbus-1")
        found = [await off(done.get, timeout=5)]
        while found[-1] != ("boiler/valve", 0):
            found.append(await off(done.get, timeout=5))
        assert ("write", 50) in found
        driver.close()
        await off(thread.join, 5)
        assert not thread.is_alive()
