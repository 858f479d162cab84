"""Jobs wait for their time, their window, their turn and their credentials; they end in time and one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.domain.command import Job, JobState, Origin
from agent.domain.schedule import UpdateTimes, parse_window
from agent.errors import Unreachable
from agent.ports import Login
from tests.control.rig import CARE, REGISTRY, SLOW, Rig, manifest, running
from tests.fakes.hand_clock import ShiftedClock

ZONE = ZoneInfo("Asia/Shanghai")
NOON_MS = 1_795_492_800_000
"""Tue 2026-11-24 12:00 in Shanghai."""
HOUR_S = 3600.0
NIGHT = UpdateTimes((parse_window("02:00-04:00"),), ZONE)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that takes the cloud's deployments between two and four at night; it is noon."""
    async with running(tmp_path, replace(CARE, times=NIGHT), ShiftedClock(NOON_MS)) as rig:
        yield rig


async def install(rig: Rig, version: str = "1", **more: Any) -> Job:
    job = await rig.job(
        await rig.send("app.install", Origin.LOCAL, instance="pump", manifest=manifest(version), **more)
    )
    assert job.state is JobState.DONE, job
    return job


async def install_again(rig: Rig) -> None:
    job = await rig.job(await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2")))
    assert job.state is JobState.DONE, job


def job_of(rig: Rig, id_: str) -> Job:
    return rig.room.ledger.jobs[id_]


async def passes(rig: Rig, hours: float) -> None:
    """The wall clock goes on, and those who wait look at it."""
    assert isinstance(rig.clock, ShiftedClock)
    rig.clock.jump(hours * HOUR_S)
    await asyncio.sleep(0)
    rig.room.runner.look()


async def waits(rig: Rig, id_: str, words: str) -> Job:
    await rig.until(lambda: words in job_of(rig, id_).message, f"'{words}' of job {id_}")
    assert job_of(rig, id_).state is JobState.WAITING
    return job_of(rig, id_)


# ---- windows and times ---------------------------------------------------------------------------------------------


async def test_what_the_cloud_deploys_waits_for_the_window_says_until_when_and_outlives_a_restart(night: Rig) -> None:
    await install(night)
    reply = await night.send("app.upgrade", take_over=True, instance="pump", manifest=manifest("2"))
    assert reply.msg.endswith("waits until Wed 2026-11-25 02:00+08:00: outside of the update windows")
    assert night.room.ledger.jobs[reply.job].until_ms == NOON_MS + 14 * 3_600_000
    assert "outside of the update windows" in night.room.views.summary("pump")["message"]
    await passes(night, 13.9)
    await night.restart()
    await waits(night, reply.job, "outside of the update windows")
    assert night.serving() == ["pump:1"]
    await passes(night, 0.2)
    assert (await night.job(reply)).state is JobState.DONE
    assert night.serving() == ["pump:2"]


async def test_a_first_installation_by_the_cloud_waits_too_and_can_be_cancelled_without_a_trace(night: Rig) -> None:
    reply = await night.send("app.install", instance="pump", manifest=manifest())
    await waits(night, reply.job, "outside")
    assert night.images.log == []
    assert (await night.send("job.cancel", job=reply.job)).code == 200
    assert night.room.ledger.desired == {}


async def test_who_stands_at_the_box_waits_for_no_window_and_may_release_what_waits(night: Rig) -> None:
    await install(night)
    reply = await night.send("app.upgrade", take_over=True, instance="pump", manifest=manifest("2"))
    refused = await night.send("job.now", job=reply.job)
    assert (refused.code, "at the box only" in refused.msg) == (403, True)
    assert (await night.send("job.now", Origin.LOCAL, job=reply.job)).code == 202
    assert (await night.job(reply)).state is JobState.DONE
    assert night.serving() == ["pump:2"]


async def test_going_back_stopping_and_removing_wait_for_no_window(night: Rig) -> None:
    await install(night)
    await night.job(await night.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2")))
    assert (await night.job(await night.send("app.rollback", instance="pump"))).state is JobState.DONE
    assert (await night.job(await night.send("app.stop", instance="pump"))).state is JobState.DONE
    assert (await night.job(await night.send("app.remove", take_over=True, instance="pump"))).state is JobState.DONE


async def test_a_window_that_ends_pauses_the_fetch_and_the_next_one_goes_on_with_it(
    night: Rig,
) -> None:
    await install(night)
    reply = await night.send("app.upgrade", take_over=True, instance="pump", manifest=manifest("2"))
    gate = night.images.faults.pause("pull")
    await passes(night, 14.1)
    await asyncio.wait_for(gate.reached.wait(), 5)
    await night.until(lambda: job_of(night, reply.job).state is JobState.DOWNLOADING, "its fetch")
    await passes(night, 2)
    await waits(night, reply.job, "until Thu 2026-11-26 02:00+08:00")
    # Nothing holds the instance meanwhile: it takes other orders.
    assert (await night.job(await night.send("app.restart", instance="pump"))).state is JobState.DONE
    await passes(night, 22)
    assert (await night.job(reply)).state is JobState.DONE
    assert night.serving() == ["pump:2"]


async def test_an_app_that_waits_for_the_window_says_that_and_until_when(night: Rig) -> None:
    reply = await night.send("app.install", instance="pump", manifest=manifest())
    await waits(night, reply.job, "outside of the update windows")
    for shown in (night.room.views.summary("pump"), night.room.views.report("pump")):
        assert shown["phase"] == "waiting"
        assert shown["message"] == "install waiting: until Wed 2026-11-25 02:00+08:00: outside of the update windows"
    gate = night.images.faults.pause("pull")
    await passes(night, 14.1)
    await asyncio.wait_for(gate.reached.wait(), 5)
    await night.until(lambda: night.room.views.summary("pump")["phase"] == "downloading", "its fetch")
    gate.open()
    assert (await night.job(reply)).state is JobState.DONE


async def test_a_window_that_ends_during_a_trial_does_not_disturb_it(night: Rig) -> None:
    await install(night)
    text = manifest("2", health="within: 20s, stable_for: 1s")
    reply = await night.send("app.upgrade", take_over=True, instance="pump", manifest=text)
    await passes(night, 14.1)
    await night.until(lambda: job_of(night, reply.job).state is JobState.VERIFYING, "its trial")
    await passes(night, 5)
    assert (await night.job(reply)).state is JobState.DONE


async def test_a_job_ordered_for_a_time_runs_then_and_not_before(night: Rig) -> None:
    await install(night)
    at_ms = NOON_MS + 3_600_000
    stop = await night.send("app.stop", Origin.LOCAL, instance="pump", at=at_ms)
    start = await night.send("app.start", Origin.LOCAL, instance="pump", at=at_ms + 60_000)
    assert (stop.code, start.code) == (202, 202)
    await waits(night, stop.job, "until Tue 2026-11-24 13:00+08:00, as ordered")
    await passes(night, 0.99)
    assert night.serving() == ["pump:1"]
    await passes(night, 0.015)
    assert (await night.job(stop)).state is JobState.DONE
    assert (night.serving(), job_of(night, start.job).state) == ([], JobState.WAITING)
    await passes(night, 1)
    assert (await night.job(start)).state is JobState.DONE
    assert night.serving() == ["pump:1"]


async def test_jobs_whose_times_passed_while_the_agent_was_away_run_in_the_order_of_their_times(night: Rig) -> None:
    await install(night)
    first = await night.send("app.start", Origin.LOCAL, instance="pump", at=NOON_MS + 7_200_000)
    second = await night.send("app.stop", Origin.LOCAL, instance="pump", at=NOON_MS + 3_600_000)
    await night.kill()
    assert isinstance(night.clock, ShiftedClock)
    night.clock.jump(24 * HOUR_S)
    await night.start()
    assert [(await night.job(r)).state for r in (second, first)] == [JobState.DONE, JobState.DONE]
    assert night.serving() == ["pump:1"]


async def test_with_a_wrong_clock_the_cloud_waits_and_the_box_does_not(night: Rig) -> None:
    assert isinstance(night.clock, ShiftedClock)
    night.clock.right = False
    await install(night)
    reply = await night.send("app.upgrade", take_over=True, instance="pump", manifest=manifest("2"))
    job = await waits(night, reply.job, "until the gateway's clock is right")
    assert job.until_ms == 0
    night.clock.right = True
    await passes(night, 14.1)
    assert (await night.job(reply)).state is JobState.DONE


async def test_clock_jumps_of_years_are_survived_by_what_waits(night: Rig) -> None:
    await install(night)
    reply = await night.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2"), at=NOON_MS + 10**9)
    for years in (-20, 10):
        await passes(night, years * 365 * 24)
        await waits(night, reply.job, "as ordered")
    await passes(night, 40 * 365 * 24)
    assert (await night.job(reply)).state is JobState.DONE


async def test_a_newer_deployment_replaces_the_one_that_waits_and_a_restart_does_not(night: Rig) -> None:
    await install(night)
    first = await night.send("app.upgrade", take_over=True, instance="pump", manifest=manifest("2"))
    assert (await night.job(await night.send("app.restart", Origin.LOCAL, instance="pump"))).state is JobState.DONE
    await waits(night, first.job, "outside")
    second = await night.send("app.upgrade", take_over=True, instance="pump", manifest=manifest("3"))
    assert job_of(night, first.job).state is JobState.SUPERSEDED
    await passes(night, 14.1)
    assert (await night.job(second)).state is JobState.DONE
    assert night.serving() == ["pump:3"]


@pytest.mark.parametrize("at_h", [0, 1])
async def test_a_login_lost_while_a_job_waits_for_its_time_is_asked_for_at_once(night: Rig, at_h: int) -> None:
    await install(night)
    night.images.lock(REGISTRY, Login("anna", "once"))
    origin, at = (Origin.LOCAL, {"at": NOON_MS + round(at_h * HOUR_S * 1000)}) if at_h else (Origin.CLOUD, {})
    given: dict[str, Any] = {"instance": "pump", "manifest": manifest("2"), **at}
    given |= {"credentials": {REGISTRY: {"username": "anna", "password": "once"}}, "take_over": True}
    first = await night.send("app.upgrade", origin, **given)
    await waits(night, first.job, "")
    await night.restart()
    await night.until(lambda: job_of(night, first.job).state is JobState.CREDENTIALS_NEEDED, "its asking")
    assert night.serving() == ["pump:1"]
    again = await night.send("app.upgrade", origin, **given)
    assert (again.code, again.job) == (202, first.job)
    await waits(night, first.job, "")
    await passes(night, 14.1)
    assert (await night.job(again)).state is JobState.DONE
    assert night.serving() == ["pump:2"]


async def test_what_is_ordered_for_later_is_refused_now_when_it_can_never_be(night: Rig) -> None:
    later = NOON_MS + 60_000
    assert (await night.send("app.stop", instance="nobody", at=later)).code == 404
    await install(night)
    assert (await night.send("app.rollback", instance="pump", at=later)).code == 409
    assert (await night.send("app.stop", instance="pump", at=5.5)).code == 400
    assert (await night.send("app.stop", instance="pump", at=-1)).code == 400
    assert (await night.send("app.stop", instance="pump", deadline_s=0)).code == 400
    late = await night.send("app.stop", instance="pump", at=night.clock.now_ms() + 60_000, deadline_s=59)
    assert (late.code, "is over before its time" in late.msg) == (400, True)
    in_time = await night.send("app.stop", instance="pump", at=night.clock.now_ms() + 60_000, deadline_s=90)
    assert in_time.code == 202
    replies = [in_time, *[await night.send("app.stop", instance="pump", at=later) for _ in range(70)]]
    assert {r.code for r in replies} == {202, 409}
    assert sum(r.code == 202 for r in replies) == 64


# ---- deadlines -----------------------------------------------------------------------------------------------------


async def test_a_fetch_that_is_not_done_in_time_fails_and_leaves_the_version_before(rig: Rig) -> None:
    await install(rig)
    rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"), times=50)
    reply = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2"), deadline_s=0.3)
    job = await rig.job(reply)
    assert job.state is JobState.FAILED
    assert job.message.startswith("not done within its deadline of 0.3 s (it was downloading: no route")
    assert rig.serving() == ["pump:1"]
    rig.images.faults.clear()
    await install_again(rig)
    assert rig.serving() == ["pump:2"]


async def test_a_fetch_whose_time_ends_in_a_retry_says_why_the_try_before_failed(rig: Rig) -> None:
    rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"))
    reply = await rig.send("app.install", instance="pump", manifest=manifest(), deadline_s=5)
    await rig.tries_again(reply.job)
    rig.images.faults.pause("pin")
    job = await rig.job(reply)
    assert job.message == (
        "not done within its deadline of 5 s (it was downloading: asking for the images); its last try failed: no route"
    )


async def test_an_installation_that_is_not_done_in_time_leaves_no_instance(rig: Rig) -> None:
    rig.images.faults.pause("pull")
    reply = await rig.send("app.install", instance="pump", manifest=manifest(), deadline_s=0.3)
    assert (await rig.job(reply)).state is JobState.FAILED
    assert rig.room.ledger.desired == {}


async def test_a_trial_that_is_not_over_in_time_goes_back_and_the_release_is_not_blamed(rig: Rig) -> None:
    await install(rig)
    text = manifest("2", health=SLOW)
    reply = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=text, deadline_s=1.5)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")
    job = await rig.job(reply)
    assert (job.state, "deadline of 1.5 s" in job.message) == (JobState.ROLLED_BACK, True)
    assert rig.serving() == ["pump:1"]
    assert not any(stored.failed for stored in rig.room.ledger.releases.values())


async def test_a_deadline_counts_on_over_a_restart_and_ends_at_once_when_it_passed_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path, clock=ShiftedClock(NOON_MS)) as rig:
        await install(rig)
        rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"), times=50)
        reply = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2"), deadline_s=600)
        await rig.kill()
        assert isinstance(rig.clock, ShiftedClock)
        rig.clock.jump(300)
        await rig.start()
        assert not job_of(rig, reply.job).state.final
        await rig.kill()
        rig.clock.jump(400)
        await rig.start()
        assert (await rig.job(reply)).state is JobState.FAILED


@pytest.mark.parametrize("years", [-30, 30])
async def test_a_wrong_clock_ends_no_job(tmp_path: Path, years: int) -> None:
    async with running(tmp_path, clock=ShiftedClock(NOON_MS)) as rig:
        await install(rig)
        gate = rig.images.faults.pause("pull")
        reply = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2"), deadline_s=600)
        await asyncio.wait_for(gate.reached.wait(), 5)
        await rig.kill()
        assert isinstance(rig.clock, ShiftedClock)
        rig.clock.jump(years * 365 * 24 * HOUR_S)
        rig.clock.right = False
        await rig.start()
        assert (await rig.job(reply)).state is JobState.DONE


# ---- order and progress --------------------------------------------------------------------------------------------


async def test_jobs_of_three_instances_work_side_by_side_and_a_fourth_waits_for_room(rig: Rig) -> None:
    gates = [rig.images.faults.pause("pull") for _ in range(3)]
    replies = [
        await rig.send("app.install", instance=f"pump-{n}", manifest=manifest(str(n + 1)))
        for n in range(len(gates) + 1)
    ]
    for gate in gates:
        await asyncio.wait_for(gate.reached.wait(), 5)
    assert [op for op, _ in rig.images.log if op == "pull"] == [], "the fourth would not have been held up"
    for gate in gates:
        gate.open()
    assert {(await rig.job(reply)).state for reply in replies} == {JobState.DONE}


async def test_a_stop_during_a_fetch_is_done_at_once_and_the_fetch_goes_on(rig: Rig) -> None:
    await install(rig)
    gate = rig.images.faults.pause("pull")
    upgrade = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2"))
    await asyncio.wait_for(gate.reached.wait(), 5)
    assert (await rig.job(await rig.send("app.stop", instance="pump"))).state is JobState.DONE
    assert (rig.serving(), job_of(rig, upgrade.job).state) == ([], JobState.DOWNLOADING)
    gate.open()
    assert (await rig.job(upgrade)).state is JobState.DONE
    assert rig.serving() == []
    assert (await rig.job(await rig.send("app.start", instance="pump"))).state is JobState.DONE
    assert rig.serving() == ["pump:2"]


async def test_progress_is_shown_in_percent_bytes_and_words(rig: Rig) -> None:
    gate = rig.images.faults.pause("pull progress")
    reply = await rig.send("image.pull", image=f"{REGISTRY}/pump:1")
    await asyncio.wait_for(gate.reached.wait(), 5)
    shown = (await rig.send("job.status", Origin.LOCAL, job=reply.job)).data
    assert (shown["state"], shown["progress"]) == ("downloading", 0)
    assert (shown["done_bytes"], shown["total_bytes"]) == (0, 2_000_000)
    gate.open()
    assert (await rig.job(reply)).state is JobState.DONE


async def test_a_plan_says_which_window_the_cloud_would_wait_for(night: Rig) -> None:
    ask: dict[str, Any] = {"instance": "pump", "manifest": manifest("1")}
    held = await night.send("app.plan", **ask)
    assert held.data["cloud_waits"] == "until Wed 2026-11-25 02:00+08:00: outside of the update windows"
    waits = await night.send("app.install", **ask)
    assert held.data["cloud_waits"] in waits.msg
    await passes(night, 14.5)
    assert (await night.send("app.plan", **ask)).data["cloud_waits"] == ""


@pytest.mark.parametrize(
    ("type_", "given"),
    [("image.pull", {"image": f"{REGISTRY}/pump:1"}), ("app.install", {"instance": "pump", "manifest": manifest()})],
)
async def test_the_bytes_of_a_job_that_is_done_have_all_come(rig: Rig, type_: str, given: dict[str, Any]) -> None:
    gate = rig.images.faults.pause("pull progress")
    reply = await rig.send(type_, **given)
    await rig.until(lambda: job_of(rig, reply.job).total_bytes > 0, "the word on its bytes half-way")
    gate.open()
    job = await rig.job(reply)
    assert (job.state, job.done_bytes, job.total_bytes) == (JobState.DONE, 2_000_000, 2_000_000)
