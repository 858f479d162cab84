"""Commands that contradict what is under way: the newest counts, and no version is called good that was not proven."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.app import Trial
from agent.domain.command import JobState
from agent.domain.container import Health
from agent.errors import Unreachable
from tests.control.rig import Rig, manifest, running

LONG = "within: 5s, stable_for: 4s"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def on_trial(rig: Rig) -> None:
    """Version 1 has proven itself, version 2 serves and is on trial."""
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=LONG))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")


@pytest.mark.parametrize("command", ["app.stop", "app.restart"])
async def test_a_version_that_was_stopped_on_trial_must_still_prove_itself(rig: Rig, command: str) -> None:
    await on_trial(rig)
    reply = await rig.send(command, instance="pump")
    if command == "app.stop":
        assert (await rig.job(reply)).state is JobState.DONE
        assert rig.serving() == []
        assert rig.room.views.summary("pump")["phase"] == "held"
        reply = await rig.send("app.start", instance="pump")
    await rig.until(lambda: rig.room.ledger.jobs[reply.job].state is JobState.VERIFYING, "its trial")
    assert rig.serving() == ["pump:2"]
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    job = await rig.job(reply)
    assert (job.state, job.message) == (JobState.ROLLED_BACK, "main is unhealthy")
    assert rig.serving() == ["pump:1"]


async def test_a_version_that_came_while_stopped_has_its_trial_when_it_is_started(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    await rig.job(await rig.send("app.stop", instance="pump"))
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=LONG)))
    assert (job.state, rig.serving()) == (JobState.DONE, [])
    reply = await rig.send("app.start", instance="pump")
    await rig.until(lambda: rig.serving() == ["pump:2"], "its start")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    assert rig.serving() == ["pump:1"]


async def test_rolling_back_from_a_trial_leads_to_the_proven_version_and_forgets_the_other(rig: Rig) -> None:
    await on_trial(rig)
    assert (await rig.job(await rig.send("app.rollback", instance="pump"))).state is JobState.DONE
    assert rig.serving() == ["pump:1"]
    again = await rig.send("app.rollback", instance="pump")
    assert (again.code, "no version to go back to" in again.msg) == (409, True)


async def test_cancelling_a_fetch_leaves_the_trial_before_it_alone(rig: Rig) -> None:
    await on_trial(rig)
    rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"), times=50)
    fetching = await rig.send("app.upgrade", instance="pump", manifest=manifest("3"))
    await rig.until(lambda: "trying again" in rig.room.ledger.jobs[fetching.job].message, "a try")
    assert (await rig.send("job.cancel", job=fetching.job)).code == 200
    assert rig.serving() == ["pump:2"]
    assert rig.room.ledger.desired["pump"].trial is Trial.VERIFYING


async def test_the_verdict_on_one_version_is_not_told_of_the_job_that_fetches_the_next(rig: Rig) -> None:
    await on_trial(rig)
    rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"), times=1)
    fetching = await rig.send("app.upgrade", instance="pump", manifest=manifest("3"))
    await rig.until(lambda: "trying again" in rig.room.ledger.jobs[fetching.job].message, "a try")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    await rig.until(lambda: rig.serving() == ["pump:1"], "the proven version")
    assert rig.room.ledger.jobs[fetching.job].state is JobState.DOWNLOADING
    job = await rig.ended(fetching.job)
    assert (job.state, job.message, rig.serving()) == (JobState.DONE, "", ["pump:3"])


@pytest.mark.parametrize("command", ["app.stop", "app.restart", "app.rollback", "app.configure", "app.install"])
async def test_what_is_being_removed_takes_no_other_orders(rig: Rig, command: str) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    rig.engine.fail_next("stop", Unreachable("engine.unreachable", "the engine does not answer"), times=1)
    removal = await rig.send("app.remove", instance="pump")
    more: dict[str, Any] = {"manifest": manifest("2")} if command == "app.install" else {}
    reply = await rig.send(command, instance="pump", **more)
    assert (reply.code, "being removed" in reply.msg) == (409, True), reply.msg
    assert (await rig.job(removal)).state is JobState.DONE
    assert "pump" not in rig.room.ledger.desired


@pytest.mark.parametrize("command", ["app.start", "app.upgrade"])
async def test_what_is_being_removed_stays_when_it_shall_run_again(rig: Rig, command: str) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    rig.engine.fail_next("stop", Unreachable("engine.unreachable", "the engine does not answer"), times=1)
    removal = await rig.send("app.remove", instance="pump")
    more: dict[str, Any] = {"manifest": manifest("2")} if command == "app.upgrade" else {}
    job = await rig.job(await rig.send(command, instance="pump", **more))
    assert job.state is JobState.DONE
    assert rig.room.ledger.jobs[removal.job].state is JobState.SUPERSEDED
    assert rig.serving() == ["pump:2" if more else "pump:1"]


async def test_of_two_that_claim_the_same_points_at_once_one_is_refused(rig: Rig) -> None:
    claim = "  permissions: {points: {publish: ['shared/#']}}\n"
    text = manifest("1").replace("  parameters:\n", claim + "  parameters:\n")
    replies = await asyncio.gather(*(rig.send("app.install", instance=f"pump-{n}", manifest=text) for n in range(3)))
    jobs = [await rig.ended(reply.job) for reply in replies]
    assert sorted(job.state for job in jobs) == [JobState.DONE, JobState.FAILED, JobState.FAILED]
    refused = next(job for job in jobs if job.state is JobState.FAILED)
    assert "'shared/#' overlaps 'shared/#', which instance pump-" in refused.message
    assert len(rig.room.ledger.desired) == 1


async def test_jobs_that_wait_for_a_dead_registry_do_not_keep_others_waiting(rig: Rig) -> None:
    rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"), times=4)
    waiting = [
        await rig.send(
            "app.install", instance=f"pump-{n}", manifest=manifest("1").replace("name: pump", f"name: pump-{n}")
        )
        for n in range(4)
    ]
    await rig.until(lambda: all("trying again" in rig.room.ledger.jobs[r.job].message for r in waiting), "their tries")
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    assert job.state is JobState.DONE
    assert [rig.room.ledger.jobs[r.job].state for r in waiting] == [JobState.DOWNLOADING] * 4


async def test_a_newer_decision_holds_from_the_next_step_of_a_plan_on(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    gate = rig.engine.faults.pause("create")
    await rig.send("app.upgrade", instance="pump", manifest=manifest("2"))
    await asyncio.wait_for(gate.reached.wait(), 5)
    begun = len(rig.engine.log)
    reply = await rig.send("app.stop", instance="pump")
    gate.open()
    assert (await rig.job(reply)).state is JobState.DONE
    assert "start" not in [op for op, _ in rig.engine.log[begun:]], "the rest of the plan was not carried out"
    assert rig.serving() == []
