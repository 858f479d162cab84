"""From the command to the running container, against the bare engine calls that make the same container.

Both ends are the engine's own word: `StartedAt`. The image is here already. Pairs are interleaved, in changing order,
because the engine's own time drifts more than the difference that is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import docker

from agent.domain.container import ContainerSpec
from agent.domain.instantiate import Place, Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.policy import Policy
from agent.domain.release import make_release
from agent.domain.values import layer_values
from agent.engine.body import create_body
from agent.files.yaml import read_document
from deploy.lab.engine import engine_socket
from deploy.lab.process import wait_until
from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway, idle_manifest
from tests.bench.pairs import measure_pairs

PAIRS = 16


def measure_deploying(pairs: int = PAIRS) -> list[Figure]:
    """`deploy.*`: the median of the pairs' ratios, and both medians in ms."""
    client = docker.APIClient(f"unix://{engine_socket()}", version="1.41", timeout=60)
    with BenchGateway() as gateway:
        found = measure_pairs(
            pairs,
            lambda number: _run_through_agent(client, gateway, number),
            lambda number: _run_bare(client, gateway.root, number),
        )
    client.close()
    return [
        figure("deploy.overhead_ratio", found.ratio, "x", 1.0),
        figure("deploy.agent_ms", found.ours_ms, "ms", found.theirs_ms),
        figure("deploy.bare_ms", found.theirs_ms, "ms"),
    ]


def _run_through_agent(client: docker.APIClient, gateway: BenchGateway, number: int) -> float:
    """Milliseconds from sending the command to the engine's StartedAt."""
    instance = f"idle-{number}"
    sent_s = time.time()
    job = gateway.install(instance, idle_manifest())
    container: dict[str, Any] = {}

    def runs() -> bool:
        found = gateway.container(instance)
        container.update(client.inspect_container(found) if found else {})
        return bool(container and container["State"]["Running"])

    # No look at the engine before it can be done: looking costs it time.
    time.sleep(0.5)
    wait_until(runs, f"{instance} runs", 30.0)
    took_ms = (started_s(container) - sent_s) * 1000
    gateway.finish(job)
    gateway.remove(instance)
    return took_ms


def _run_bare(client: docker.APIClient, root: Path, number: int) -> float:
    """The same container by docker-py alone: create and start."""
    spec = make_spec(f"bare-{number}", root, idle_manifest())
    (root / "bare").mkdir(exist_ok=True)
    body = create_body(spec)
    sent_s = time.time()
    created = client.create_container_from_config(body, spec.name)["Id"]  # type: ignore[no-untyped-call]
    client.start(created)
    took_ms = (started_s(client.inspect_container(created)) - sent_s) * 1000
    client.remove_container(created, v=True, force=True)
    time.sleep(0.3)
    return took_ms


def make_spec(instance: str, root: Path, written: Mapping[str, Any]) -> ContainerSpec:
    """What the agent makes of a manifest of one service, under a gateway's name that is nobody's."""
    manifest, problems = read_manifest(read_document(json.dumps(written), instance))
    assert manifest is not None, problems
    release = make_release(manifest, {image: image for image in manifest.images})
    effective, _ = layer_values(manifest, ())
    place = Place("bench-bare", "bench-bare", "", str(root / "bare"), "", Policy())
    spec, problems = instantiate(release, Site(instance, effective), place)
    assert spec is not None, problems
    return replace(spec.containers[0], image="ec/busybox:1")


def started_s(container: dict[str, Any]) -> float:
    """Epoch seconds of the engine's StartedAt."""
    whole, _, nanos = str(container["State"]["StartedAt"]).rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{nanos or 0}")
