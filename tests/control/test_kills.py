"""Killed before or after any journaled step, an operation ends in the old or the new state, and nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.domain.container import ContainerSpec, Health
from agent.store.state import StateStore
from tests.control.rig import REGISTRY, Rig, manifest


class Fuse:
    """Stops the agent's writing at the n-th journal entry, for ever: as a kill would, seen from the disk."""

    def __init__(self, store: StateStore, at: int) -> None:
        self.reached = asyncio.Event()
        self._left = at
        for name in ("begin_step", "end_step", "commit"):
            setattr(store, name, self._wrap(getattr(store, name)))

    def _wrap(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                self.reached.set()
                await asyncio.Event().wait()
            return await write(*args, **kwargs)

        return wrapped


FAST = "within: 2s, stable_for: 0s"


DATA = "/fake/ec-pump_data"


def text_of(operation: str, version: str, health: str) -> str:
    """The manifest of one version, in the flavour that the operation is about."""
    if "data" in operation:
        text = manifest(version, extra='volumes: ["data:/data"]', health=health) + "volumes: {data: {}}\n"
        return text.replace("  update:\n", "  update:\n    rollback: {volumes: [data]}\n")
    text = manifest(version, health=health)
    return text.replace("  update:\n", "  update:\n    strategy: start-first\n") if "start-first" in operation else text


async def begin(rig: Rig, operation: str) -> None:
    """Send the command; the fuse may stop it before its reply."""
    if operation == "install":
        await rig.send("app.install", instance="pump", manifest=text_of(operation, "1", FAST))
    elif operation == "remove":
        await rig.send("app.remove", instance="pump", volumes=True)
    else:
        text = text_of(operation, "2", "within: 2s, stable_for: 0.2s")
        await rig.send("app.upgrade", instance="pump", manifest=text)
    if "failing" in operation:
        await rig.until(lambda: "pump:2" in rig.serving(), "the new version", 5)
        new = rig.images.publish(f"{REGISTRY}/pump:2")
        ill = [c.id for c in rig.engine.find("pump", "main") if rig.engine.spec_of(c.id).image == new]
        rig.engine.become("pump", "main", Health.UNHEALTHY, *ill)


def write_into_data(rig: Rig) -> None:
    """Every container that starts leaves the digest of its image in the data."""

    def write(spec: ContainerSpec) -> None:
        if any(mount.kind == "volume" for mount in spec.mounts):
            folder = rig.engine.disk.setdefault(DATA, {})
            folder["by"] = f"{folder.get('by', '')} {spec.image}"

    rig.engine.on_start = write


ALLOWED = {
    "install": [[], ["pump:1"]],
    "upgrade": [["pump:1"], ["pump:2"]],
    "failing upgrade with data": [["pump:1"], ["pump:2"]],
    "start-first upgrade": [["pump:1"], ["pump:2"]],
    "remove": [[], ["pump:1"]],
}


@pytest.mark.parametrize("operation", list(ALLOWED))
async def test_killed_at_every_write_it_ends_old_or_new_with_nothing_left_over(tmp_path: Path, operation: str) -> None:
    for at in range(60):
        rig = Rig(tmp_path / str(at))
        write_into_data(rig)
        await rig.start()
        if operation != "install":
            await rig.job(await rig.send("app.install", instance="pump", manifest=text_of(operation, "1", FAST)))
        fuse = Fuse(rig.store, at)
        work = asyncio.create_task(begin(rig, operation))
        blown = asyncio.create_task(fuse.reached.wait())
        done, _ = await asyncio.wait({work, blown}, timeout=8, return_when=asyncio.FIRST_COMPLETED)
        if blown not in done:
            await asyncio.wait({blown}, timeout=1.5)
        killed = fuse.reached.is_set()
        work.cancel()
        blown.cancel()
        await asyncio.gather(work, blown, return_exceptions=True)
        await rig.restart()
        await _settles(rig, ALLOWED[operation])
        if rig.serving() == ["pump:1"]:
            assert rig.images.publish(f"{REGISTRY}/pump:2") not in rig.engine.disk.get(DATA, {}).get("by", "")
        assert rig.snapshots.instances() == frozenset()
        await rig.kill()
        if not killed:
            assert at > 3, "the operation wrote next to nothing: the fuse is not in its way"
            return
    pytest.fail("the operation never ended")


async def _settles(rig: Rig, allowed: list[list[str]]) -> None:
    def settled() -> bool:
        containers = rig.engine.find("pump", "main")
        jobs_over = all(job.state.final for job in rig.room.ledger.jobs.values())
        one_each = len(containers) == len(rig.serving())
        known = bool(rig.room.ledger.desired) == bool(containers)
        return jobs_over and rig.serving() in allowed and one_each and known

    await rig.until(settled, f"one of {allowed} and no leftovers", 15)
