"""From nothing to an image that can run: the agent's own fetcher against the engine's own pull, from the same registry.

Both begin with nothing of the image here and end when the engine knows it whole; pairs are interleaved in changing order.
The image is what a Python APP is made of: a base of some 25 MB packed, and two layers of an APP's own.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import subprocess
import tempfile
import time
from pathlib import Path

import docker

from agent.engine.images import DockerImages, ImageRules
from agent.registry.client import RegistryClient
from deploy.lab import Registry
from deploy.lab.engine import engine_socket
from tests.bench.figures import Figure, figure
from tests.bench.pairs import measure_pairs
from tests.contract.registry.shelves import RealShelf
from tests.faults.oci import Layer, digest_of, make_layer

PAIRS = 7
NAME = "bench/pump"
_SOURCE = "ec/python:3"


def measure_pulling(pairs: int = PAIRS) -> list[Figure]:
    """`deploy.pull_*`: the median of the pairs' ratios, and both medians in ms."""
    client = docker.APIClient(f"unix://{engine_socket()}", version="1.41", timeout=120)
    with tempfile.TemporaryDirectory() as folder, Registry(Path(folder) / "registry") as registry:
        digest = RealShelf(registry).put_image(NAME, "1.0", _layers())
        pinned = f"{registry.address}/{NAME}@{digest}"
        found = measure_pairs(
            pairs,
            lambda number: _by_agent(client, pinned, Path(folder) / f"state-{number}"),
            lambda _: _by_engine(client, pinned),
        )
    client.close()
    return [
        figure("deploy.pull_overhead_ratio", found.ratio, "x", 1.0),
        figure("deploy.pull_agent_ms", found.ours_ms, "ms", found.theirs_ms),
        figure("deploy.pull_engine_ms", found.theirs_ms, "ms"),
    ]


def _by_agent(client: docker.APIClient, pinned: str, state: Path) -> float:
    images = DockerImages(str(engine_socket()), RegistryClient(state / "blobs"), ImageRules(mark="bench"))
    began_s = time.monotonic()
    found = asyncio.run(images.pull(pinned, lambda *_: None))
    took_ms = (time.monotonic() - began_s) * 1000
    images.close()
    client.remove_image(found.id, force=True)
    return took_ms


def _by_engine(client: docker.APIClient, pinned: str) -> float:
    began_s = time.monotonic()
    for line in client.pull(pinned, stream=True):
        assert b"errorDetail" not in line, line
    image_id = str(client.inspect_image(pinned)["Id"])  # type: ignore[no-untyped-call]
    took_ms = (time.monotonic() - began_s) * 1000
    client.remove_image(image_id, force=True)
    return took_ms


def _layers() -> list[Layer]:
    """The base as a registry has it, and an APP's wheels and code: random bytes do not pack."""
    made = subprocess.run(["docker", "create", _SOURCE, "true"], check=True, capture_output=True, timeout=60)
    container = made.stdout.decode().strip()
    try:
        tar = subprocess.run(["docker", "export", container], check=True, capture_output=True, timeout=120).stdout
    finally:
        subprocess.run(["docker", "rm", container], check=True, capture_output=True, timeout=60)
    base = Layer(gzip.compress(tar, compresslevel=6, mtime=0), digest_of(tar))
    code = json.dumps([secrets.token_hex(8)] * 10_000).encode()
    return [base, make_layer({"app/wheels": secrets.token_bytes(4_000_000)}), make_layer({"app/code": code})]
