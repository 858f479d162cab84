"""The engine's disk is full: tries come at a measured pace, blame nobody, and go through soon after it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.errors import NoSpace
from tests.control.rig import Rig, manifest, running

FULL = NoSpace("engine.no_space", "no space left on device")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_what_a_failed_step_leaves_behind_does_not_cut_its_wait_short(rig: Rig) -> None:
    rig.engine.fail_next("create", FULL, times=3)
    reply = await rig.send("app.install", instance="pump", manifest=manifest("1"))
    await rig.until(lambda: "pump" in rig.room.reconciler.errors, "the first failure")
    await asyncio.sleep(0.5)
    assert rig.engine.faults.planned("create") == 2, "one try, and the next in its time"
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:1"]


async def test_starts_that_fail_are_no_crash_loop(rig: Rig) -> None:
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    assert job.state is JobState.DONE
    rig.engine.fail_next("start", FULL, times=4)
    rig.engine.vanish("pump", "main")
    await rig.until(lambda: not rig.engine.faults.planned("start") and bool(rig.serving()), "the end", within_s=25)
    assert rig.plane.alarms.raised == ["engine/no_space"]
    await rig.until(lambda: rig.plane.alarms.active() == [], "the alarm is over")
    assert rig.room.supervisor.looping("pump") == frozenset()


async def test_the_first_that_gets_through_calls_the_others(rig: Rig) -> None:
    for name in ("first", "second"):
        await rig.job(await rig.send("app.install", instance=name, manifest=manifest("1")))
    rig.engine.fail_next("create", FULL, times=8)
    for name in ("first", "second"):
        rig.engine.vanish(name, "main")
    await rig.until(lambda: not rig.engine.faults.planned("create"), "four failures of each", within_s=20)
    rig.room.reconciler.touch("first")
    await rig.until(lambda: bool(rig.serving("first")), "the first is back", within_s=2)
    await rig.until(lambda: bool(rig.serving("second")), "and calls the second", within_s=2)
    assert rig.room.reconciler.errors == {}
