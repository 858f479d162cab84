"""Sample -> rule -> actuator through the eSDK: from the producer's send to the actuator's read.

Three processes: the agent's data plane with its sockets and an outbox on disk, a producer that sends one sample a
request, an actuator that reads its command stream. Every sample makes the rule act: a write and an event.
``python -m tests.bench.rule_path [--rate 1000] [--seconds 10] [--sdk]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

WARM_UP = 200
PRODUCER, ACTUATOR = "producer", "actuator"
Queue = Any  # multiprocessing.Queue of lists of nanoseconds


def serve(root: Path, ready: Event, done: Event, out: Queue) -> None:
    """The agent's part."""
    asyncio.run(_serve(root, ready, done, out))


async def _serve(root: Path, ready: Event, done: Event, out: Queue) -> None:
    from agent.data.plane import make_plane
    from agent.domain.appview import AppView
    from agent.domain.grants import Grants
    from agent.domain.rule import EventAction, RuleConfig, WriteAction
    from agent.domain.sample import DeviceConfig, PointConfig
    from agent.esdk.applog import AppLogs
    from agent.esdk.desk import UplinkDesk
    from agent.esdk.services import EsdkServices
    from agent.esdk.sockets import Sockets
    from agent.host.clock import SystemClock
    from agent.store.outbox import SqliteOutbox
    from tests.fakes.esdk_gateway import AnyProcess, FakeHost
    from tests.fakes.outbox import FakeAlarmStore

    clock = SystemClock(0)
    store = SqliteOutbox(root / "outbox.db", 256 * 1024 * 1024)
    await store.open()
    plane = make_plane(store, FakeAlarmStore(), clock)
    valve = PointConfig("out/valve", "out", ACTUATOR, "int", writable=True)
    rule = RuleConfig(
        "bench", (("x", f"{PRODUCER}/x"),), "x.value > 0.5",
        then=(WriteAction("out/valve", 1), EventAction("high", {"limit": 0.5})),
        otherwise=(WriteAction("out/valve", 0), EventAction("low", {"limit": 0.5})),
    )  # fmt: skip
    await plane.start()
    plane.table.set_publishers({PRODUCER: (f"{PRODUCER}/#",)})
    plane.configure([DeviceConfig("out", ACTUATOR, points=(valve,))], (), [rule])
    logs = AppLogs(root / "logs")
    services = EsdkServices(
        plane.ingest, plane.table, plane.streams, plane.writes, plane.alarms, plane.devices,
        UplinkDesk(plane.outbox.add, clock), FakeHost(), clock, logs,
    )  # fmt: skip
    sockets = Sockets(root, services, AnyProcess())
    await sockets.open(AppView(PRODUCER, "", "", ("main",), Grants(points_publish=(f"{PRODUCER}/#",))))
    await sockets.open(AppView(ACTUATOR, "", "", ("main",)))
    ready.set()
    cpu_s = time.process_time()
    await asyncio.to_thread(done.wait)
    cpu_s = time.process_time() - cpu_s
    await sockets.close_all()
    await logs.close()
    await plane.close()
    depth = await store.depth()
    await store.close()
    out.put({"records": sum(depth["records"].values()), "cpu_s": cpu_s})


def actuate(path: str, count: int, ready: Event, out: Queue) -> None:
    """Read the command stream; note when each command was read."""
    from ecsdk.wire import Connection

    connection = Connection(path, 10.0)
    connection.ask("GET", "/v1/commands/stream", None)
    connection.read_head()
    ready.set()
    times: list[int] = []
    for frame in connection.frames(10.0):
        if frame.startswith(b"event: command"):
            times.append(time.monotonic_ns())
            if len(times) == count:
                break
    out.put(times)


def produce(path: str, count: int, rate: float, sdk: bool, out: Queue) -> None:
    """Send one sample a request at a steady rate; note when each was sent."""
    from ecsdk import Client
    from ecsdk.wire import Connection

    client, connection = Client(path), Connection(path, 10.0)
    bodies = [b'{"p":"producer/x","v":0.0}', b'{"p":"producer/x","v":1.0}']
    times: list[int] = []
    due_ns = time.monotonic_ns()
    step_ns = int(1e9 / rate)
    for number in range(count):
        due_ns += step_ns
        while (wait_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / 1e9)
        times.append(time.monotonic_ns())
        if sdk:
            client.points.send([(f"{PRODUCER}/x", float((number + 1) % 2))])
        else:
            status, _, _ = connection.exchange("POST", "/v1/points", bodies[(number + 1) % 2])
            assert status == 200
    out.put(times)


def measure(*, rate: float = 1000.0, seconds: float = 10.0, sdk: bool = False) -> dict[str, float]:
    """Run it once; milliseconds."""
    context = multiprocessing.get_context("spawn")
    count = int(rate * seconds) + WARM_UP
    with tempfile.TemporaryDirectory(prefix="ec") as folder:
        root = Path(folder)
        serving, listening, done = context.Event(), context.Event(), context.Event()
        sent, got, served = context.Queue(), context.Queue(), context.Queue()
        agent = context.Process(target=serve, args=(root, serving, done, served))
        agent.start()
        assert serving.wait(30), "the agent did not start"
        path = {name: str(root / name / "esdk.sock") for name in (PRODUCER, ACTUATOR)}
        actuator = context.Process(target=actuate, args=(path[ACTUATOR], count, listening, got))
        actuator.start()
        assert listening.wait(30), "the actuator did not connect"
        producer = context.Process(target=produce, args=(path[PRODUCER], count, rate, sdk, sent))
        producer.start()
        sent_ns, got_ns = sent.get(timeout=seconds * 5 + 60), got.get(timeout=60)
        done.set()
        after = served.get(timeout=60)
        for process in (agent, actuator, producer):
            process.join(10)
    assert len(sent_ns) == len(got_ns) == count
    delays_ms = sorted((b - a) / 1e6 for a, b in list(zip(sent_ns, got_ns, strict=True))[WARM_UP:])
    took_s = (sent_ns[-1] - sent_ns[WARM_UP]) / 1e9
    return {
        "count": len(delays_ms),
        "per_s": (count - WARM_UP - 1) / took_s,
        "p50_ms": delays_ms[len(delays_ms) // 2],
        "p99_ms": delays_ms[len(delays_ms) * 99 // 100],
        "p999_ms": delays_ms[len(delays_ms) * 999 // 1000],
        "max_ms": delays_ms[-1],
        "records_on_disk": after["records"],
        "agent_cpu_s": after["cpu_s"],
    }


def main() -> None:
    """Print one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sdk", action="store_true", help="the producer uses the SDK instead of a raw connection")
    options = parser.parse_args()
    figures = measure(rate=options.rate, seconds=options.seconds, sdk=options.sdk)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
