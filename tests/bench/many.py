"""Two hundred small APPs on one gateway: what they cost while they do nothing, and what one change among them costs.

The baseline of the change is what the engine alone takes for it among the same containers: create the new one, stop the
old one, start the new one. What it took through the agent when the APP was alone is printed beside it.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import docker

from agent.engine.body import create_body
from deploy.lab.engine import engine_socket
from deploy.lab.process import wait_until
from tests.bench.deploying import make_spec, started_s
from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway, idle_manifest
from tests.bench.idle import SETTLE_S, cpu_percents, status_kib

APPS = 200
CHANGES = 7
IN_FLIGHT = 8


def measure_many(apps: int = APPS) -> list[Figure]:
    """`*_at_200_apps*`, and how long it took to install them all."""
    client = docker.APIClient(f"unix://{engine_socket()}", version="1.41", timeout=60)
    with BenchGateway() as gateway:
        gateway.finish(gateway.install("many-0", _manifest()))
        alone_ms = _change(client, gateway, "many-0", first=1)
        began_s = time.monotonic()
        _install(gateway, range(1, apps))
        install_s = time.monotonic() - began_s
        time.sleep(SETTLE_S)
        rss_kib = status_kib(Path(f"/proc/{gateway.pid}/status"), "VmRSS")
        cpu, engine_cpu = cpu_percents(gateway.pid)
        among_ms = _change(client, gateway, "many-0", first=100)
        bare_ms = _change_bare(client, gateway.root)
        gateway.stop()
        ready_s = gateway.start()
    client.close()
    return [
        figure("reconcile.ms_at_200_apps_one_change", among_ms, "ms", bare_ms),
        figure("reconcile.ms_one_change_alone", alone_ms, "ms"),
        figure("agent.rss_mib_at_200_apps", rss_kib / 1024, "MiB"),
        figure("agent.cpu_idle_percent_at_200_apps", cpu, "% of a core", engine_cpu),
        figure("agent.ready_ms_at_200_apps", ready_s * 1000, "ms"),
        figure("deploy.s_for_200_apps", install_s, "s"),
    ]


def _manifest(version: str = "1") -> dict[str, Any]:
    """Small, and says so: what 200 APPs may take together is promised to them when they are admitted."""
    manifest = idle_manifest(version)
    manifest["services"]["main"]["mem_limit"] = "16M"
    return manifest


def _install(gateway: BenchGateway, numbers: range) -> None:
    """Install in groups, as a roll-out does."""
    for first in range(numbers.start, numbers.stop, IN_FLIGHT):
        group = range(first, min(first + IN_FLIGHT, numbers.stop))
        gateway.finish(*(gateway.install(f"many-{n}", _manifest()) for n in group))
        print(f"{group.stop - 1}", end=" ", file=sys.stderr, flush=True)


def _change(client: docker.APIClient, gateway: BenchGateway, instance: str, *, first: int) -> float:
    """Milliseconds from the command that changes one APP to the engine's StartedAt of its new container, the median."""
    took_ms = []
    for number in range(first, first + CHANGES):
        manifest = _manifest(version=str(number))
        manifest["services"]["main"]["environment"] = {"ROUND": str(number)}
        old = gateway.container(instance)
        sent_s = time.time()
        job = str(gateway.upgrade(instance, manifest))
        new: dict[str, Any] = {}

        def runs(old: str = old, new: dict[str, Any] = new) -> bool:
            # While the new version is on trial the old container is still there, stopped.
            ids = [found for found in gateway.containers(instance) if found != old]
            new.update(client.inspect_container(ids[0]) if ids else {})
            return bool(new and new["State"]["Running"])

        time.sleep(0.5)  # no look at the engine before it can be done: looking costs it time
        wait_until(runs, f"the new {instance} runs", 30.0)
        took_ms.append((started_s(new) - sent_s) * 1000)
        gateway.finish(job)
    return statistics.median(took_ms)


def _change_bare(client: docker.APIClient, root: Path) -> float:
    """The same change by docker-py alone, among the same containers: milliseconds to the new one's StartedAt, the median."""
    (root / "bare").mkdir(exist_ok=True)
    took_ms, old = [], ""
    for number in range(CHANGES + 1):
        spec = make_spec(f"bare-{number}", root, _manifest())
        sent_s = time.time()
        new = str(client.create_container_from_config(create_body(spec), spec.name)["Id"])  # type: ignore[no-untyped-call]
        if old:
            client.stop(old, timeout=10)
        client.start(new)
        took_ms.append((started_s(client.inspect_container(new)) - sent_s) * 1000)
        if old:
            client.remove_container(old, v=True, force=True)
        old = new
        time.sleep(0.5)
    client.remove_container(old, v=True, force=True)
    return statistics.median(took_ms[1:])  # the first had nothing to stop
