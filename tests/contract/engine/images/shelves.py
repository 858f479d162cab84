"""What the contract suite needs of images: the fake, and a real engine beside a real registry."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
from pathlib import Path

from agent.domain.space import Disk
from agent.engine.handover import Rooms
from agent.engine.images import DockerImages, ImageRules
from agent.ports import Images
from agent.registry.client import Limits, RegistryClient
from deploy.lab import Registry
from tests.contract.engine.conftest import import_busybox
from tests.contract.engine.rig import docker
from tests.fakes.images import FakeImages


def no_progress(done: int, total: int, what: str) -> None:
    """Nobody looks."""


class FakeShelf:
    """The fake under test, and a registry's shelf for it."""

    name = "fake"

    def __init__(self) -> None:
        self.fake = FakeImages()
        self.images: Images = self.fake
        self.repository = "127.0.0.1:5000/ec-test/pump"

    async def publish(self, tag: str, content: str) -> str:
        return self.fake.publish(f"{self.repository}:{tag}", content).partition("@")[2]

    async def add(self, name: str) -> str:
        self.fake.add(name)
        return name

    def fill(self) -> None:
        self.fake.disk_is_full = True


class RealShelf:
    """A real engine and a real registry. Everything it makes is under names of its own."""

    name = "real"

    def __init__(self, socket: Path, registry: Registry, folder: Path) -> None:
        self.stem = f"ec-test-{secrets.token_hex(4)}"
        self.mark = "t" + secrets.token_hex(3)
        self.registry = registry
        self.repository = f"{registry.address}/{self.stem}/pump"
        self.source = RegistryClient(folder, limits=Limits(stall_s=1.0, retry_waits_s=(0.05, 0.05)))
        self.used_percent = 50
        rooms = Rooms("/", self._measure)
        self.socket, self.folder = socket, folder
        self.rules = ImageRules(mark=self.mark, stall_s=1.0, retry_waits_s=(0.05, 0.05), rooms=rooms)
        self.images: Images = DockerImages(str(socket), self.source, self.rules)

    async def publish(self, tag: str, content: str) -> str:
        return await asyncio.to_thread(self._publish, tag, content)

    def _publish(self, tag: str, content: str) -> str:
        ref = f"{self.repository}:{tag}"
        image_id = import_busybox(ref, content)
        docker("push", "-q", ref)
        docker("image", "rm", "-f", image_id)
        return self.registry.digest(f"{self.stem}/pump", tag)

    def fill(self) -> None:
        self.used_percent = 90

    def _measure(self, path: str) -> Disk:
        del path
        return Disk(1, 2**40 * (100 - self.used_percent) // 100, 2**40)

    async def add(self, name: str) -> str:
        ref = f"{self.stem}/{name}"
        await asyncio.to_thread(import_busybox, ref, name)
        return ref

    def close(self) -> None:
        """Remove every image of a name of ours."""
        assert isinstance(self.images, DockerImages)
        self.images.close()
        rows = docker("image", "ls", "--no-trunc", "--format", "{{json .}}").splitlines()
        ids = dict.fromkeys(row["ID"] for row in map(json.loads, rows) if self.stem in row["Repository"])
        # Newest first, as listed: a base goes after what was built on it. Within one second the order is nobody's.
        for image_id in (*ids, *ids):
            subprocess.run(["docker", "image", "rm", "-f", image_id], check=False, capture_output=True, timeout=60)


Shelf = FakeShelf | RealShelf
