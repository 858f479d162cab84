"""The engine's disk is full: tries come at a measured pace, blame nobody, and go through soon after it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.errors import Failed, NoSpace, Refused, Unreachable
from tests.control.rig import CARE, FAST, Rig, manifest, running

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


async def test_a_job_whose_step_is_tried_again_says_what_is_in_the_way_until_it_is_not(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    rig.engine.fail_next("start", Refused("admission.bind", "pump is not started: /srv/x leads elsewhere"), times=2)
    reply = await rig.send("app.restart", instance="pump")
    await rig.until(
        lambda: "/srv/x leads elsewhere" in rig.room.ledger.jobs[reply.job].message,
        "the job says why it takes its time",
    )
    assert rig.room.ledger.jobs[reply.job].state is JobState.INSTALLING
    job = await rig.job(reply)
    assert (job.state, job.message, rig.serving()) == (JobState.DONE, "", ["pump:1"])


async def test_a_removal_that_had_a_trouble_ends_without_its_words(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    rig.engine.fail_next("remove", Unreachable("engine.store_ill", "no such file or directory"))
    reply = await rig.send("app.remove", instance="pump")
    await rig.until(lambda: "no such file" in rig.job_now(reply.job).message, "it says what is in the way")
    job = await rig.job(reply)
    assert (job.state, job.message) == (JobState.DONE, "")


async def test_a_trouble_whose_words_change_with_each_try_is_told_once_and_another_one_again(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    told: list[str] = []
    rig.room.ledger.listen(lambda change: told.extend(job.message for job in change.jobs if job.message))
    errors = [NoSpace("engine.no_space", f"mkdir /layers/{word}: no space left") for word in "abc"]
    for error in (*errors, Unreachable("engine.store_ill", "no such file or directory")):
        rig.engine.fail_next("start", error)
    reply = await rig.send("app.restart", instance="pump")

    def all_met() -> bool:
        rig.room.reconciler.touch("pump")
        return not rig.engine.faults.planned("start")

    await rig.until(all_met, "all of them")
    assert (await rig.job(reply)).state is JobState.DONE
    assert told == [
        "tried again: mkdir /layers/a: no space left",
        "tried again: no such file or directory",
    ]


async def test_starts_that_fail_are_no_crash_loop(tmp_path: Path) -> None:
    async with running(tmp_path, replace(CARE, restarts=replace(FAST, deaths=2))) as rig:
        job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        assert job.state is JobState.DONE
        rig.engine.fail_next("start", FULL, times=3)
        rig.engine.vanish("pump", "main")
        await rig.until(lambda: not rig.engine.faults.planned("start") and bool(rig.serving()), "the end", within_s=20)
        assert rig.alarms.raised == ["engine/no_space"]
        await rig.until(lambda: rig.plane.alarms.active() == [], "the alarm is over")
        assert rig.room.supervisor.looping("pump") == frozenset()


async def test_troubles_that_take_turns_raise_one_alarm_each(rig: Rig) -> None:
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    assert job.state is JobState.DONE
    for error in (FULL, Unreachable("engine.store_ill", "no such file or directory"), FULL):
        rig.engine.fail_next("create", error)
    rig.engine.vanish("pump", "main")
    await rig.until(lambda: rig.serving() == ["pump:1"], "it is back", within_s=15)
    await rig.until(lambda: rig.plane.alarms.active() == [], "the alarms are over")
    assert rig.alarms.raised == ["engine/no_space", "engine/store_ill"]


async def test_a_trouble_that_lasts_over_the_return_to_the_old_version_and_data_is_one_episode(rig: Rig) -> None:
    volume = 'volumes: ["data:/data"]'
    texts = [
        manifest(version, extra=volume).replace("health:", "rollback: {automatic: true, volumes: [data]}\n    health:")
        + "volumes: {data: {}}\n"
        for version in "12"
    ]
    assert (await rig.job(await rig.send("app.install", instance="pump", manifest=texts[0]))).state is JobState.DONE
    exposed = Failed("engine.host_rule", "isolated networks cannot be shut off from the host")
    rig.engine.fail_next("start", exposed, times=3)  # the new one, and after the data are back twice the old one
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=texts[1]))
    assert job.state is JobState.ROLLED_BACK
    assert rig.serving() == ["pump:1"]
    assert rig.engine.faults.planned("start") == 0
    await rig.until(lambda: rig.plane.alarms.active() == [], "the alarm is over")
    assert rig.alarms.raised == ["engine/host_rule"]


async def test_the_first_that_gets_through_calls_the_others(rig: Rig) -> None:
    for name in ("first", "second"):
        await rig.job(await rig.send("app.install", instance=name, manifest=manifest("1")))
    rig.engine.fail_next("create", FULL, times=6)
    for name in ("first", "second"):
        rig.engine.vanish(name, "main")
    await rig.until(lambda: not rig.engine.faults.planned("create"), "three failures of each", within_s=20)

    def first_is_back() -> bool:
        rig.room.reconciler.touch(
            "first"
        )  # again and again: what comes while its third failure is dealt with is not heard
        return bool(rig.serving("first"))

    await rig.until(first_is_back, "the first is back")
    await rig.until(lambda: bool(rig.serving("second")), "and calls the second", within_s=2)
    assert rig.room.reconciler.errors == {}
