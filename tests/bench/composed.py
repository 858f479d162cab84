"""The same APP of several services by this gateway and by Compose, in the same run, on the same engine.

Both are measured from the start of the command, `ecgw app install` and Compose's `up -d`, to the engine's StartedAt of the last
service: what loading a program takes is in both. The images are here already.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker

from deploy.lab.compose import find_compose
from deploy.lab.engine import engine_socket
from deploy.lab.process import wait_until
from tests.bench.deploying import started_s
from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway

PAIRS = 7
SERVICES = ("store", "broker", "worker")


def measure_composed(pairs: int = PAIRS) -> list[Figure]:
    """`compose.*`: the median of the pairs' ratios, and both medians."""
    client = docker.APIClient(f"unix://{engine_socket()}", version="1.41", timeout=60)
    ours: list[float] = []
    theirs: list[float] = []
    compose = find_compose()
    with BenchGateway() as gateway:
        for number in range(pairs + 1):
            rounds = [lambda n=number: ours.append(_by_agent(client, gateway, n)),
                      lambda n=number: theirs.append(_by_compose(client, compose.command, gateway.root, n))]  # fmt: skip
            for each in rounds if number % 2 else reversed(rounds):
                each()
    client.close()
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return [
        figure("compose.ratio", statistics.median(ratios), "x", 1.0, by=str(compose)),
        figure("compose.agent_ms", statistics.median(ours[1:]), "ms", statistics.median(theirs[1:]), by=str(compose)),
    ]


def manifest() -> dict[str, Any]:
    """Three services that start one after the other, on a network and a volume of their own."""
    services: dict[str, Any] = {}
    for number, name in enumerate(SERVICES):
        services[name] = {"image": "ec/busybox:1", "command": ["sleep", "86400"], "volumes": ["data:/data"]}
        if number:
            services[name]["depends_on"] = [SERVICES[number - 1]]
    return {
        "name": "trio",
        "x-ec": {"version": "1", "network": "outbound", "update": {"health": {"within": "20s", "stable_for": "0s"}}},
        "services": services,
        "volumes": {"data": {}},
    }


def _by_agent(client: docker.APIClient, gateway: BenchGateway, number: int) -> float:
    instance = f"trio-{number}"
    path = gateway.root / f"{instance}.yaml"
    path.write_text(json.dumps(manifest()))
    sent_s = time.time()
    job = gateway.install_by_hand(instance, path)
    last_s = _last_start(client, [f"ec.gateway={gateway.id}", f"ec.app={instance}"])
    gateway.finish(job)
    gateway.remove(instance)
    return (last_s - sent_s) * 1000


def _by_compose(client: docker.APIClient, command: Sequence[str], root: Path, number: int) -> float:
    project = f"ecbench{number}"
    body = {key: value for key, value in manifest().items() if key not in ("x-ec", "name")}
    path = root / "compose.yaml"
    path.write_text(json.dumps({"version": "3.7", **body}))
    argv = [*command, "-p", project, "-f", str(path)]
    sent_s = time.time()
    subprocess.run([*argv, "up", "-d"], check=True, capture_output=True, timeout=120)
    last_s = _last_start(client, [f"com.docker.compose.project={project}"])
    subprocess.run([*argv, "down", "-v", "-t", "0"], check=True, capture_output=True, timeout=120)
    return (last_s - sent_s) * 1000


def _last_start(client: docker.APIClient, labels: Sequence[str]) -> float:
    """When the last of the services started, by the engine's own word."""
    found: list[dict[str, Any]] = []

    def all_run() -> bool:
        rows = client.containers(filters={"label": list(labels)})
        found[:] = [client.inspect_container(row["Id"]) for row in rows]
        return len(found) == len(SERVICES) and all(each["State"]["Running"] for each in found)

    time.sleep(1.0)  # no look at the engine before it can be done: looking costs it time
    wait_until(all_run, "all services run", 60.0)
    return max(started_s(each) for each in found)
