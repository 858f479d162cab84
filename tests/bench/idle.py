"""What the agent takes while its APPs do nothing: memory with 8, CPU with 10, and how long a start takes with 10."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway, idle_manifest, read_environment

SETTLE_S = 15.0
CPU_OVER_S = 40.0
STARTS = 5
REQUIRED = "paho.mqtt.client, docker, pydantic, apscheduler.schedulers.asyncio, psutil"
"""The packages that every agent of this kind has to load; the baseline of memory and of the start."""


def measure_idle() -> list[Figure]:
    """`agent.*`."""
    bare_kib, bare_s = _load_required()
    with BenchGateway() as gateway:
        _install(gateway, 0, 8)
        time.sleep(SETTLE_S)
        rss_kib = status_kib(Path(f"/proc/{gateway.pid}/status"), "VmRSS")
        pss_kib = status_kib(Path(f"/proc/{gateway.pid}/smaps_rollup"), "Pss")
        _install(gateway, 8, 10)
        time.sleep(SETTLE_S)
        cpu, engine_cpu = cpu_percents(gateway.pid)
        starts_s = []
        for _ in range(STARTS):
            gateway.stop()
            starts_s.append(gateway.start())
    return [
        figure("agent.rss_mib", rss_kib / 1024, "MiB", bare_kib / 1024),
        figure("agent.pss_mib", pss_kib / 1024, "MiB"),
        figure("agent.cpu_idle_percent", cpu, "% of a core", engine_cpu),
        figure("agent.ready_ms", statistics.median(starts_s) * 1000, "ms", bare_s * 1000),
    ]


def _install(gateway: BenchGateway, first: int, end: int) -> None:
    gateway.finish(*(gateway.install(f"idle-{n}", idle_manifest()) for n in range(first, end)))


def _load_required() -> tuple[int, float]:
    """A Python that has loaded the required packages and does nothing: its RSS in KiB, and the median seconds it took."""
    code = f"import {REQUIRED}\nfor line in open('/proc/self/status'):\n if line.startswith('VmRSS'): print(line.split()[1])"
    took: list[float] = []
    rss_kib = 0
    for _ in range(STARTS + 1):
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=read_environment()
        )
        took.append(time.perf_counter() - began_s)
        rss_kib = int(done.stdout)
    return rss_kib, statistics.median(took[1:])


def status_kib(path: Path, key: str) -> int:
    """A line of a process's memory files, in KiB."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{key}:"))


def cpu_percents(pid: int | None) -> tuple[float, float | None]:
    """What a process and the engine take of one core from now on for a while; None where the engine cannot be seen."""
    engine = engine_pid()
    before, engine_before, began_s = cpu_s(pid), cpu_s(engine), time.monotonic()
    time.sleep(CPU_OVER_S)
    took_s = time.monotonic() - began_s
    engine_percent = (cpu_s(engine) - engine_before) / took_s * 100 if engine else None
    return (cpu_s(pid) - before) / took_s * 100, engine_percent


def cpu_s(pid: int | None) -> float:
    """User and system time of all threads so far."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def engine_pid() -> int | None:
    """dockerd's process, where it can be seen."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "dockerd":
                return int(entry.name)
        except OSError:
            continue
    return None
