"""What failed its health gate is remembered by content; disk, registry, engine and killed agents are not held against it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain import transition
from agent.domain.command import JobState, Origin
from agent.domain.container import Health, RunState
from agent.domain.retention import KEEP_UNUSED
from agent.errors import Conflict, Failed, GatewayError, NotFound
from agent.ports import DesiredApp, DesiredIndex, DesiredRelease
from tests.control.rig import REGISTRY, SLOW, Rig, manifest


async def install(rig: Rig, version: str) -> None:
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest(version)))
    assert job.state is JobState.DONE, job


async def fail(rig: Rig, reply: Any, version: str) -> None:
    await rig.until(lambda: rig.serving() == [f"pump:{version}"], "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state in (JobState.ROLLED_BACK, JobState.FAILED)


async def test_what_is_known_bad_is_refused_before_anything_is_fetched(rig: Rig) -> None:
    await install(rig, "1")
    text = manifest("2", health=SLOW)
    await fail(rig, await rig.send("app.upgrade", instance="pump", manifest=text), "2")
    rig.images.fail_next("pull", Failed("test.pulled", "it was fetched"), times=9)
    await rig.images.remove(rig.images.publish(f"{REGISTRY}/pump:2"))
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=text))
    assert (job.state, "failed before: main is unhealthy" in job.message) == (JobState.FAILED, True)
    assert rig.serving() == ["pump:1"]


@pytest.mark.parametrize("origin", list(Origin))
async def test_a_pinned_release_that_is_known_bad_is_refused_at_once_from_everywhere(rig: Rig, origin: Origin) -> None:
    pinned = {v: rig.images.publish(f"{REGISTRY}/pump:{v}") for v in "12"}
    text = {v: manifest(v, health=SLOW).replace(f"{REGISTRY}/pump:{v}", pinned[v]) for v in "12"}
    text["1"] = text["1"].replace("stable_for: 15s", "stable_for: 0s")
    await rig.job(await rig.send("app.install", origin, instance="pump", manifest=text["1"]))
    await fail(rig, await rig.send("app.upgrade", origin, instance="pump", manifest=text["2"]), "2")
    again = await rig.send("app.upgrade", origin, instance="pump", manifest=text["2"])
    assert (again.code, again.data["code"]) == (409, "release.known_bad")
    assert (await rig.send("app.upgrade", origin, instance="pump", manifest=text["2"], force=True)).code == 202


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (Failed("engine.cannot_execute", "exec: no such file"), True),
        (Failed("engine.runtime_broken", "no runc"), False),
        (Failed("engine.pools_exhausted", "no free address pool"), False),
        (NotFound("image.not_found", "no such image"), False),
        (Conflict("engine.port_taken", "port is already allocated"), False),
    ],
)
async def test_only_what_is_the_release_s_own_doing_is_held_against_it(
    rig: Rig, error: GatewayError, blamed: bool
) -> None:
    await install(rig, "1")
    rig.engine.fail_next("start", error)
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    assert (job.state, rig.serving()) == (JobState.ROLLED_BACK, ["pump:1"])
    again = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    assert again.state is (JobState.FAILED if blamed else JobState.DONE)


async def test_an_engine_that_goes_away_in_the_middle_of_a_trial_is_not_held_against_the_release(rig: Rig) -> None:
    await install(rig, "1")
    text = manifest("2", health="within: 20s, stable_for: 1s")
    reply = await rig.send("app.upgrade", instance="pump", manifest=text)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    rig.engine.drop()
    await rig.until(lambda: "pump" in rig.room.reconciler.errors, "the reconciler misses the engine")
    rig.engine.restore()
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:2"]


async def test_a_container_that_somebody_removes_on_trial_is_made_again_and_not_held_against_the_release(
    rig: Rig,
) -> None:
    await install(rig, "1")
    text = manifest("2", health="within: 3s, stable_for: 2s")
    reply = await rig.send("app.upgrade", instance="pump", manifest=text)
    await rig.until(lambda: rig.room.ledger.jobs[reply.job].state is JobState.VERIFYING, "the trial")
    (watched,) = [each for each in await rig.engine.containers("pump") if each.state is RunState.RUNNING]
    await rig.engine.remove(watched.id)
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:2"]


async def test_a_cancelled_trial_is_not_held_against_the_release(rig: Rig) -> None:
    await install(rig, "1")
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=SLOW))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    assert (await rig.send("job.cancel", job=reply.job)).code == 200
    await rig.until(lambda: rig.serving() == ["pump:1"], "its going back")
    assert [stored.failed for stored in rig.room.ledger.releases.values()] == ["", ""]


async def test_a_first_version_that_failed_and_is_started_by_hand_is_on_trial_again(rig: Rig) -> None:
    text = manifest("1", health="within: 20s, stable_for: 0.5s")
    await fail(rig, await rig.send("app.install", instance="pump", manifest=text), "1")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "its stop")
    assert "did not pass its health gate: main is unhealthy" in rig.room.views.summary("pump")["message"]
    await fail(rig, await rig.send("app.start", instance="pump"), "1")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "its second stop")
    assert (await rig.job(await rig.send("app.start", instance="pump"))).state is JobState.DONE
    assert rig.versions() == [("1", "current")]
    assert [stored.failed for stored in rig.room.ledger.releases.values()] == [""]


async def test_a_corrected_version_of_a_first_install_that_failed_runs_without_a_start_by_hand(rig: Rig) -> None:
    await fail(rig, await rig.send("app.install", instance="pump", manifest=manifest("1", health=SLOW)), "1")
    assert (
        await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    ).state is JobState.DONE
    assert (rig.serving(), rig.versions()) == (["pump:2"], [("2", "current")])


async def window_opens(rig: Rig, number: int) -> None:
    await rig.until(lambda: rig.room.ledger.get("pump").windows == number, f"window {number}")


async def test_an_agent_that_dies_again_and_again_does_not_verify_for_ever(rig: Rig) -> None:
    await install(rig, "1")
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=SLOW))
    for window in range(1, transition.MAX_WINDOWS + 1):
        await window_opens(rig, window)
        await rig.restart()
    job = await rig.ended(reply.job)
    assert (job.state, "interrupted" in job.message) == (JobState.ROLLED_BACK, True)
    assert (rig.serving(), [r.failed for r in rig.room.ledger.releases.values()]) == (["pump:1"], ["", ""])


async def test_a_wish_for_what_is_known_bad_is_told_once_and_not_tried_again(rig: Rig) -> None:
    await install(rig, "1")
    text = manifest("2", health=SLOW)
    await fail(rig, await rig.send("app.upgrade", instance="pump", manifest=text), "2")
    bad = next(r.hash for r in rig.room.ledger.releases.values() if r.failed)
    index = DesiredIndex(7, {"pump": DesiredApp(bad, "running", {})}, {})
    await rig.room.wishes.take_release(DesiredRelease("pump", text))
    jobs = len(rig.room.ledger.jobs)
    for _ in range(3):
        await rig.room.wishes.take_index(index)
    await rig.until(lambda: all(job.state.final for job in rig.room.ledger.jobs.values()), "the end of its job")
    assert len(rig.room.ledger.jobs) <= jobs + 1
    assert rig.serving() == ["pump:1"]


async def test_releases_that_nobody_needs_are_forgotten_beyond_a_bound_and_marks_stay(rig: Rig) -> None:
    await install(rig, "1")
    for number in range(KEEP_UNUSED + 4):
        text = manifest("1").replace('version: "1"', f'version: "1.{number}"')
        assert (await rig.job(await rig.send("app.upgrade", instance="pump", manifest=text))).state is JobState.DONE
    assert len(rig.room.ledger.releases) == KEEP_UNUSED + 3
    await rig.restart()
    assert len(rig.room.ledger.releases) == KEEP_UNUSED + 3
    assert [v["version"] for v in rig.room.views.detail("pump")["versions"]] == ["1.19", "1.18", "1.17"]
