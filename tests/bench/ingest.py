"""The whole ingest path on one core: JSON in, checked, a rule on every tenth point, reduced, batched, committed.

CPU seconds of the whole process count, the outbox's writer thread too, so the figure is per core whatever the
machine has. ``python -m tests.bench.ingest [--points 1000]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import msgspec

from agent.data.plane import DataPlane, make_plane
from agent.domain.rule import EventAction, RuleConfig
from agent.domain.sample import DeviceConfig, PointConfig, Sample
from agent.host.clock import SystemClock
from agent.store.outbox import SqliteOutbox
from deploy.lab.series import sea_temperature
from tests.bench.figures import Figure, figure
from tests.bench.gateway import DISK
from tests.fakes.outbox import FakeAlarmStore

SAMPLES = 300_000
BATCH = 512
ROUNDS = 3


def make_batches(points: int, samples: int) -> list[bytes]:
    """A recorded series, every point reading it from another place, ten readings a second of each point."""
    values = list(islice(cycle(celsius for _, celsius in sea_temperature()), 20_000))
    began_ms = int(time.time() * 1000) - samples // points * 100
    rows: Iterator[dict[str, object]] = (
        {
            "p": f"d/p{n % points}",
            "t": began_ms + n // points * 100,
            "v": values[(n // points + n % points * 37) % len(values)],
            "q": "good",
        }
        for n in range(samples)
    )
    return [json.dumps(list(islice(rows, BATCH))).encode() for _ in range(samples // BATCH)]


def make_points(points: int) -> tuple[PointConfig, ...]:
    """Half with windows, half with a deadband of 0.5 % of the range."""
    return tuple(
        PointConfig(f"d/p{n}", "d", window_s=10.0) if n % 2 else PointConfig(f"d/p{n}", "d", deadband=0.1)
        for n in range(points)
    )


def make_rules(points: int) -> list[RuleConfig]:
    """One on every tenth point; the limit is passed now and then."""
    return [
        RuleConfig(f"r{n}", (("x", f"d/p{n}"),), "x.value > 22.5", then=(EventAction("warm", {"limit": 22.5}),))
        for n in range(0, points, 10)
    ]


async def _run(plane: DataPlane, batches: list[bytes]) -> float:
    decoder = msgspec.json.Decoder(list[Sample])
    began_s = time.process_time()
    for batch in batches:
        plane.ingest.accept("driver", decoder.decode(batch))
        await asyncio.sleep(0)
    await plane.ingest.flushed()
    return time.process_time() - began_s


async def _measure(points: int, batches: list[bytes]) -> float:
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        store = SqliteOutbox(Path(folder) / "outbox.db", 512 * 1024 * 1024)
        await store.open()
        plane = make_plane(store, FakeAlarmStore(), SystemClock(0))
        plane.configure([DeviceConfig("d", "driver", points=make_points(points))], (), make_rules(points))
        cpu_s = await _run(plane, batches)
        await plane.close()
        await store.close()
    return len(batches) * BATCH / cpu_s


def ingest_samples_per_s(points: int = 1_000, samples: int = SAMPLES) -> float:
    """Median of three runs, samples per CPU second."""
    batches = make_batches(points, samples)
    return sorted(asyncio.run(_measure(points, batches)) for _ in range(ROUNDS))[ROUNDS // 2]


def json_loads_samples_per_s(points: int = 1_000, samples: int = SAMPLES) -> float:
    """Baseline: the standard library's JSON parser alone on the same bytes, samples per CPU second."""
    batches = make_batches(points, samples)
    rates = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for batch in batches:
            json.loads(batch)
        rates.append(len(batches) * BATCH / (time.process_time() - began_s))
    return sorted(rates)[ROUNDS // 2]


def measure_ingest() -> list[Figure]:
    """`ingest.*`: with 1,000 points."""
    return [figure("ingest.samples_per_s", ingest_samples_per_s(), "samples/s", json_loads_samples_per_s())]


def main() -> None:
    """Print a line for each number of points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, action="append", help="default: 10, 1000 and 10000")
    for points in parser.parse_args().points or [10, 1_000, 10_000]:
        print(
            f"{points:6} points: {ingest_samples_per_s(points):9.0f} samples/s;"
            f" json.loads alone: {json_loads_samples_per_s(points):9.0f}"
        )


if __name__ == "__main__":
    main()
