"""While two versions of an APP run side by side, the gateway asks the proven one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from tests.control.rig import SLOW, Rig, manifest, running


def text(version: str, health: str = "within: 20s, stable_for: 1s", strategy: str = "start-first") -> str:
    return manifest(version, health=health).replace("  update:\n", f"  update:\n    strategy: {strategy}\n")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def both(rig: Rig) -> None:
    await rig.until(lambda: rig.serving() == ["pump:1", "pump:2"], "both")


async def test_the_version_on_trial_waits_and_the_one_before_it_once_that_has_proved_itself(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=text("1")))
    (old,) = rig.engine.find("pump", "main")
    listener = rig.plane.writes.attach("pump", old.id)
    reply = await rig.send("app.upgrade", instance="pump", manifest=text("2"))
    await both(rig)
    (new,) = [c for c in rig.engine.find("pump", "main") if c.id != old.id]
    await rig.until(lambda: rig.plane.writes.waits("pump", new.id), "its place behind the proven one")
    waits = rig.plane.writes.attach("pump", new.id)
    assert (listener.ended, rig.plane.writes.waits("pump", old.id)) == (False, False)
    assert (await rig.job(reply)).state is JobState.DONE
    assert (listener.ended, waits.ended, rig.plane.writes.waits("pump", new.id)) == (True, False, False)


async def test_a_version_that_fails_never_has_its_turn(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=text("1")))
    (old,) = rig.engine.find("pump", "main")
    listener = rig.plane.writes.attach("pump", old.id)
    reply = await rig.send("app.upgrade", instance="pump", manifest=text("2", SLOW))
    await both(rig)
    (new,) = [c for c in rig.engine.find("pump", "main") if c.id != old.id]
    await rig.until(lambda: rig.plane.writes.waits("pump", new.id), "its place behind the proven one")
    waits = rig.plane.writes.attach("pump", new.id)
    await rig.restart()
    await rig.until(lambda: rig.plane.writes.waits("pump", new.id), "its place also after a restart of the agent")
    listener, waits = (rig.plane.writes.attach("pump", each.id) for each in (old, new))
    await rig.send("job.cancel", job=reply.job)
    await rig.until(lambda: rig.engine.find("pump", "main") == [old], "the old one alone")
    assert (listener.ended, waits.ended) == (False, False)


async def test_with_stop_first_and_at_the_first_start_nobody_waits(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=text("1", strategy="stop-first"))
    await rig.until(lambda: rig.serving() == ["pump:1"], "the first")
    (first,) = rig.engine.find("pump", "main")
    await rig.until(lambda: not rig.plane.writes.waits("pump", first.id), "its turn, once it was seen")
    await rig.job(reply)
    await rig.send("app.upgrade", instance="pump", manifest=text("2", SLOW, strategy="stop-first"))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the second")
    (second,) = [c for c in rig.engine.find("pump", "main") if c.serving]
    await rig.until(lambda: not rig.plane.writes.waits("pump", second.id), "its turn")
    assert not rig.plane.writes.waits("pump", "")
