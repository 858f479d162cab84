"""A control room on a real state file and a fake engine, and the words its tests are written in."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from agent.bundles.shelf import BundleShelf
from agent.control.catalog import Premises
from agent.control.room import Care, ControlRoom, Outside
from agent.control.watch.metering import Pace
from agent.data.plane import make_plane
from agent.domain.command import Command, Job, JobState, Origin, Reply
from agent.domain.policy import Policy
from agent.domain.restart import RestartPolicy
from agent.errors import Unreachable
from agent.host.clock import SystemClock
from agent.logs import Recent
from agent.ports import Clock
from agent.registry.blobs import BlobStore
from agent.registry.kept import Kept
from agent.store.shelf import DiskShelf
from agent.store.state import StateStore
from tests.control.alarmwatch import AlarmWatch
from tests.fakes.engine import FakeEngine
from tests.fakes.images import FakeImages
from tests.fakes.meter import FakeMeter
from tests.fakes.outbox import FakeAlarmStore, FakeOutboxStore
from tests.fakes.plane import FakeDoors, FakeHost, FakeProber
from tests.fakes.snapshots import FakeSnapshots

REGISTRY = "127.0.0.1:5000"
PACE = Pace(tick_s=0.05, look_s=0.1, measure_s=0.2, measure_most_s=0.4, tell_s=0.2)
FAST = RestartPolicy(deaths=4, window_s=60, healthy_s=0.4, first_s=0.1, last_s=0.2)
CARE = Care(FAST, pace=PACE, bridges_s=0.1)
SLOW = "within: 20s, stable_for: 15s"
"""A health gate that watches for longer than a test."""


def manifest(
    version: str = "1", image: str = "pump", extra: str = "", health: str = "within: 3s, stable_for: 0s"
) -> str:
    """A manifest of one service `main`; `extra` are further lines of that service."""
    text = f"""\
    name: pump
    x-ec:
      version: "{version}"
      parameters:
        LIMIT: {{type: number, default: 6.5, min: 0, max: 16}}
      update:
        health: {{{health}}}
    services:
      main:
        image: {REGISTRY}/{image}:{version}
        environment: {{LIMIT: "${{LIMIT}}"}}
    """
    lines = textwrap.indent(textwrap.dedent(extra), "    ")
    return textwrap.dedent(text).rstrip() + "\n" + (lines + "\n" if lines else "")


class Rig:
    """One gateway. `restart()` is a kill of the agent: the engine stays as it is."""

    def __init__(self, root: Path, care: Care = CARE, clock: Clock | None = None) -> None:
        self.root = root
        self.care = care
        self.clock = clock or SystemClock(0)
        self.images = FakeImages(*(f"{REGISTRY}/{i}:{v}" for i in ("pump", "other") for v in "1234"))
        self.engine = FakeEngine("gw", self.images)
        blobs = root / "blobs"
        self.bundles = BundleShelf(root / "bundles", BlobStore(blobs), Kept(blobs / "manifests"), self._download)
        self.snapshots = FakeSnapshots(self.engine.disk)
        self.outbox_store = FakeOutboxStore()
        self.alarm_store = FakeAlarmStore()
        self.alarms = AlarmWatch()
        self.doors = FakeDoors(root / "s")
        self.prober = FakeProber()
        self.host = FakeHost()
        self.meter = FakeMeter()
        self.downloads: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        """Downloads that begin, by the file's name, and end only when their event is set."""
        self.policy = Policy(registries=(REGISTRY,))
        self._ids = itertools.count()
        (root / "etc").mkdir(parents=True, exist_ok=True)

    async def _download(self, url: str, digest: str, progress: object) -> Path:
        """What the world outside gives for a URL: files in a folder."""
        found = self.root / "world" / url.rpartition("/")[2]
        self.downloads.append(url)
        if found.name in self.held:
            await self.held[found.name].wait()
        if not found.exists():
            raise Unreachable("image.registry_unreachable", f"{url} does not answer")
        return found

    async def start(self) -> None:
        """Build the room and follow the engine."""
        self.store = StateStore(self.root / "state.db")
        await self.store.open()
        self.plane = make_plane(self.outbox_store, self.alarm_store, self.clock)
        self.alarms.follow(self.plane.alarms)
        await self.plane.start()
        outside = Outside(
            self.store,
            self.engine,
            self.images,
            self.bundles,
            self.snapshots,
            self.doors,
            DiskShelf(self.root / "files"),
            self.host,
            self.clock,
            self.prober,
            Recent(),
            dict,
            self.meter,
        )
        premises = Premises("gw", "ec", self.policy)
        self.room = ControlRoom(outside, premises, self.plane, self.root / "etc", self.care)
        await self.room.start()
        self._task = asyncio.create_task(self.room.run())

    async def kill(self) -> None:
        """Stop everything at once, wherever it is."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.room.stop()
        await self.plane.close()
        await self.store.close()

    async def restart(self) -> None:
        """A new agent on the same state and engine."""
        await self.kill()
        await self.start()

    async def send(self, type_: str, origin: Origin = Origin.CLOUD, id_: str = "", **params: Any) -> Reply:
        """Submit a command."""
        command = Command(id_ or f"c{next(self._ids)}", type_, params, origin, who="test")
        return await asyncio.wait_for(self.room.inbox.submit(command), 10)

    async def job(self, reply: Reply) -> Job:
        """The job of a reply once it is over."""
        assert reply.code == 202, reply
        return await self.ended(reply.job)

    async def ended(self, job_id: str) -> Job:
        """A job once it is over."""
        ledger = self.room.ledger
        await self.until(lambda: ledger.jobs[job_id].state.final, f"the end of {job_id}")
        return ledger.jobs[job_id]

    def job_now(self, job_id: str) -> Job:
        """A job as it is."""
        return self.room.ledger.jobs[job_id]

    async def tries_again(self, job_id: str) -> None:
        """Wait until a job has failed to reach the world outside, and will try again."""
        await self.until(lambda: "trying again" in self.job_now(job_id).message, "its first try")

    async def loses_login(self, job_id: str) -> None:
        """Restart the agent once a job has tried, and wait until it asks for what it had been given for once."""
        await self.tries_again(job_id)
        await self.restart()
        await self.until(lambda: self.job_now(job_id).state is JobState.CREDENTIALS_NEEDED, "its waiting")

    def written(self) -> bytes:
        """All bytes on the gateway's disk."""
        return b"".join(path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file())

    def versions(self, instance: str = "pump") -> list[tuple[str, str]]:
        """The versions of an instance, each with its state."""
        return [(v["version"], v["state"]) for v in self.room.views.detail(instance)["versions"]]

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = 10) -> None:
        """Wait for something to come true."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
            await asyncio.sleep(0.01)

    def serving(self, instance: str = "pump") -> list[str]:
        """The images that serve, e.g. ``pump:1``; the fake pins tags to digests it makes from them."""
        tags = {self.images.publish(f"{REGISTRY}/{i}:{v}"): f"{i}:{v}" for i in ("pump", "other") for v in "1234"}
        return sorted(tags[self.engine.spec_of(c.id).image] for c in self.engine.find(instance, "main") if c.serving)


@contextlib.asynccontextmanager
async def running(root: Path, care: Care = CARE, clock: Clock | None = None) -> AsyncIterator[Rig]:
    """A rig that is stopped at the end."""
    rig = Rig(root, care, clock)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.kill()
