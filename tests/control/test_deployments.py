"""Deployments end in the new version working or the old version working."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import JobState, Origin
from agent.domain.container import Health, RunState
from agent.errors import Conflict, Failed, NoSpace, Unreachable
from tests.control.rig import REGISTRY, Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def install(rig: Rig, version: str = "1", **more: Any) -> None:
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest(version), **more))
    assert job.state is JobState.DONE, job


async def test_an_install_ends_in_a_running_container_with_its_door_open(rig: Rig) -> None:
    await install(rig)
    assert rig.serving() == ["pump:1"]
    assert list(rig.doors.open_now) == ["pump"]
    assert rig.room.views.summary("pump")["phase"] == "running"


async def test_an_upgrade_replaces_the_container_and_keeps_the_version_before(rig: Rig) -> None:
    await install(rig)
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    assert job.state is JobState.DONE
    assert rig.serving() == ["pump:2"]
    assert len(rig.engine.find("pump", "main")) == 1
    assert [v["version"] for v in rig.room.views.detail("pump")["versions"]] == ["2", "1"]


async def test_an_upgrade_that_turns_unhealthy_goes_back_by_itself_and_is_remembered(rig: Rig) -> None:
    await install(rig)
    before = rig.engine.find("pump", "main")[0].id
    slow = manifest("2", health="within: 5s, stable_for: 4s")
    reply = await rig.send("app.upgrade", instance="pump", manifest=slow)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    job = await rig.job(reply)
    assert (job.state, job.message) == (JobState.ROLLED_BACK, "main is unhealthy")
    assert rig.serving() == ["pump:1"]
    assert [c.id for c in rig.engine.find("pump", "main")] == [before]
    again = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=slow))
    assert again.state is JobState.FAILED
    assert "failed before: main is unhealthy" in again.message
    forced = await rig.send("app.upgrade", instance="pump", manifest=slow, force=True)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the forced version")
    assert forced.code == 202


async def test_an_engine_fault_during_an_upgrade_goes_back_without_blaming_the_release(rig: Rig) -> None:
    await install(rig)
    rig.engine.fail_next("create", Failed("engine.failed", "no such runtime"))
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    assert job.state is JobState.ROLLED_BACK
    assert rig.serving() == ["pump:1"]
    assert (
        await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    ).state is JobState.DONE


async def test_a_passing_fault_is_tried_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.engine.fail_next("start", Unreachable("engine.unreachable", "the engine does not answer"), times=2)
    await install(rig)
    assert rig.serving() == ["pump:1"]
    assert caplog.text.count("step='start container main") == 2, "it failed twice, and the third time it did not"


async def test_a_first_install_that_never_gets_healthy_ends_stopped_and_says_why(rig: Rig) -> None:
    text = manifest("1", health="within: 1s, stable_for: 0s")
    reply = await rig.send("app.install", instance="pump", manifest=text)
    rig.engine.hold_restarts = True
    await rig.until(lambda: bool(rig.serving()), "its start")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    job = await rig.job(reply)
    assert (job.state, job.message) == (JobState.FAILED, "main is unhealthy")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "its stop")
    assert not rig.serving()


async def test_a_registry_that_refuses_ends_the_job_and_leaves_no_instance(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=manifest("9"))
    assert (await rig.job(reply)).state is JobState.FAILED
    assert rig.room.ledger.desired == {}


async def test_an_image_that_was_built_here_needs_no_registry_on_the_allow_list(rig: Rig) -> None:
    text = manifest("1").replace(f"{REGISTRY}/pump:1", "workshop/pump:1")
    refused = await rig.send("app.install", instance="pump", manifest=text)
    assert (refused.code, "registry docker.io of image workshop/pump:1 is not allowed" in refused.msg) == (403, True)
    built = rig.images.add("workshop/pump:1")
    assert (await rig.send("app.plan", instance="pump", manifest=text)).code == 200
    assert (await rig.job(await rig.send("app.install", instance="pump", manifest=text))).state is JobState.DONE
    assert [rig.engine.spec_of(c.id).image for c in rig.engine.find("pump", "main")] == [built.id]


async def test_a_full_disk_during_a_pull_is_waited_out_while_the_old_version_serves(rig: Rig) -> None:
    await install(rig)
    rig.images.fail_next("pull", NoSpace("engine.no_space", "no space left on the engine's disk"))
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("2"))
    ledger = rig.room.ledger
    await rig.until(lambda: "no space left" in ledger.jobs[reply.job].message, "its message")
    assert rig.serving() == ["pump:1"]
    assert (await rig.job(reply)).state is JobState.DONE


async def test_a_newer_upgrade_replaces_one_that_is_still_fetching(rig: Rig) -> None:
    await install(rig)
    gate = rig.images.faults.pause("pull")
    first = await rig.send("app.upgrade", instance="pump", manifest=manifest("2"))
    await gate.reached.wait()
    second = await rig.send("app.upgrade", instance="pump", manifest=manifest("3"))
    assert (await rig.job(first)).state is JobState.SUPERSEDED
    assert (await rig.job(second)).state is JobState.DONE
    assert rig.serving() == ["pump:3"]


@pytest.mark.parametrize(("kind", "end"), [("restart", "has proven itself"), ("stop", "is still on trial")])
async def test_an_order_during_a_trial_says_that_the_version_stays_and_what_became_of_it(
    rig: Rig, kind: str, end: str
) -> None:
    await install(rig)
    upgrade = await rig.send(
        "app.upgrade", instance="pump", manifest=manifest("2", health="within: 9s, stable_for: 2s")
    )
    await rig.until(lambda: rig.job_now(upgrade.job).state is JobState.VERIFYING, "its trial")
    order = await rig.job(await rig.send(f"app.{kind}", instance="pump"))
    replaced = rig.job_now(upgrade.job)
    assert replaced.state is JobState.SUPERSEDED
    assert replaced.message == f"replaced by job {order.id}; its version stays, and job {order.id} goes on with it"
    assert (order.state, order.message) == (JobState.DONE, f"the version that job {upgrade.job} brought {end}")


async def test_an_upgrade_during_a_trial_goes_back_to_the_proven_version_not_to_the_other_trial(rig: Rig) -> None:
    await install(rig)
    slow = "within: 20s, stable_for: 15s"
    await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=slow))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the first trial")
    third = await rig.send("app.upgrade", instance="pump", manifest=manifest("3", health=slow))
    await rig.until(lambda: rig.serving() == ["pump:3"], "the second trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(third)).state is JobState.ROLLED_BACK
    assert rig.serving() == ["pump:1"]


async def test_a_cancelled_fetch_changes_nothing(rig: Rig) -> None:
    await install(rig)
    gate = rig.images.faults.pause("pull")
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("2"))
    await gate.reached.wait()
    assert (await rig.send("job.cancel", job=reply.job)).code == 200
    assert (await rig.job(reply)).state is JobState.CANCELLED
    assert rig.serving() == ["pump:1"]
    await install_other(rig)


async def install_other(rig: Rig) -> None:
    text = manifest("1", image="other").replace("name: pump", "name: other")
    job = await rig.job(await rig.send("app.install", instance="other", manifest=text))
    assert job.state is JobState.DONE


async def test_rolling_back_by_hand_restores_release_and_values(rig: Rig) -> None:
    await install(rig, values={"LIMIT": 5})
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2"), values={"LIMIT": 7}))
    job = await rig.job(await rig.send("app.rollback", instance="pump"))
    assert job.state is JobState.DONE
    assert rig.serving() == ["pump:1"]
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"]["value"] == 5


async def test_going_back_by_itself_restores_the_values_too(rig: Rig) -> None:
    await install(rig, values={"LIMIT": 5})
    slow = manifest("2", health="within: 20s, stable_for: 15s")
    reply = await rig.send("app.upgrade", instance="pump", manifest=slow, values={"LIMIT": 7})
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    assert limit_of(rig) == "7"
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    assert (rig.serving(), limit_of(rig)) == (["pump:1"], "5")
    shown = {"value": 5, "source": "cloud"}
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"] == shown
    await rig.restart()
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "running", "its running under a new agent")
    assert (rig.serving(), limit_of(rig)) == (["pump:1"], "5")
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"] == shown


def limit_of(rig: Rig) -> str:
    """The LIMIT that the one container of the pump that serves has in its environment."""
    (container,) = (found for found in rig.engine.find("pump", "main") if found.serving)
    return dict(rig.engine.spec_of(container.id).environment)["LIMIT"]


async def test_stop_holds_over_an_agent_restart_and_start_runs_it_again(rig: Rig) -> None:
    await install(rig)
    await rig.job(await rig.send("app.stop", instance="pump"))
    assert rig.serving() == []
    await rig.restart()
    await rig.until(lambda: rig.room.reconciler.listed, "the engine")
    summary = rig.room.views.summary("pump")
    assert (summary["phase"], summary["message"]) == ("held", "stopped by test")
    await rig.job(await rig.send("app.start", instance="pump"))
    assert rig.serving() == ["pump:1"]


async def test_restart_makes_a_new_start_of_the_same_container(rig: Rig) -> None:
    await install(rig)
    before = rig.engine.find("pump", "main")[0]
    job = await rig.job(await rig.send("app.restart", instance="pump"))
    after = rig.engine.find("pump", "main")[0]
    assert job.state is JobState.DONE
    assert (after.id, after.started_at != before.started_at) == (before.id, True)


async def test_what_was_stopped_or_removed_by_hand_comes_back(rig: Rig) -> None:
    await install(rig)
    await rig.engine.stop(rig.engine.find("pump", "main")[0].id, 1)
    await rig.until(lambda: rig.serving() == ["pump:1"], "its return after docker stop")
    rig.engine.vanish("pump", "main")
    await rig.until(lambda: rig.serving() == ["pump:1"], "its return after docker rm")
    assert [job.kind for job in rig.room.ledger.jobs.values()] == ["install"], "nobody's order was needed"


async def test_what_was_paused_by_hand_goes_on_without_a_restart(rig: Rig) -> None:
    await install(rig)
    (before,) = rig.engine.find("pump", "main")
    rig.engine.pause("pump", "main")
    await rig.until(lambda: rig.engine.find("pump", "main") == [before], "its going on, the same in everything")
    (after,) = rig.engine.find("pump", "main")
    assert (after.id, after.started_at) == (before.id, before.started_at)


async def test_what_was_limited_by_hand_in_a_way_that_nothing_takes_back_is_made_anew_once_and_is_no_crash(
    rig: Rig,
) -> None:
    await install(rig)
    (before,) = rig.engine.find("pump", "main")
    rig.engine.bend("pump", "main")
    await rig.until(lambda: rig.serving() == ["pump:1"] and not rig.engine.find("pump", "main")[0].bent, "a new one")
    await rig.restart()
    await rig.until(lambda: "pump" in rig.room.reconciler.observed, "a look by a new agent")
    (after,) = rig.engine.find("pump", "main")
    assert (after.id == before.id, after.name, after.spec, after.live) == (False, before.name, before.spec, before.live)
    assert [op for op, _ in rig.engine.log if op in ("create", "remove", "update")] == ["create", "remove", "create"]
    assert rig.alarms.raised == []


async def test_a_container_renamed_by_hand_gets_its_name_back_at_once_or_later_and_runs_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await install(rig)
    (before,) = rig.engine.find("pump", "main")
    await rig.engine.rename(before.id, "strange")
    rig.engine.fail_next("rename", Conflict("engine.conflict", "somebody else has the name"))
    await rig.until(lambda: "not_renamed" in caplog.text, "it is told")
    assert rig.room.reconciler.errors == {}
    rig.room.reconciler.touch("pump")
    await rig.until(lambda: rig.engine.find("pump", "main") == [before], "its name, and nothing else changed")


async def test_an_engine_with_limits_of_its_own_makes_a_container_anew_once_and_never_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.engine.gives = ("CpuShares=1024",)
    await install(rig)
    await rig.until(lambda: "limits_are_what_this_engine_gives" in caplog.text, "it is learnt")
    reconciler = rig.room.reconciler
    for _ in range(3):
        seen = reconciler.observed["pump"]
        reconciler.touch("pump")
        await rig.until(lambda seen=seen: reconciler.observed["pump"] is not seen, "another look")  # type: ignore[misc]
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    assert (job.state, rig.serving()) == (JobState.DONE, ["pump:2"])
    assert len([op for op, _ in rig.engine.log if op == "create"]) == 3, "version 1 twice, version 2 once"
    assert caplog.text.count("limits_are_what_this_engine_gives") == 1


async def test_removal_leaves_nothing_but_volumes_and_purging_takes_those(rig: Rig) -> None:
    text = manifest("1", extra='volumes: ["data:/data"]') + "volumes: {data: {}}\n"
    await rig.job(await rig.send("app.install", instance="pump", manifest=text))
    assert [v.name for v in await rig.engine.volumes()] == ["ec-pump_data"]
    await rig.job(await rig.send("app.remove", instance="pump"))
    assert (await rig.engine.containers(), rig.doors.open_now, rig.room.ledger.desired) == ([], {}, {})
    assert [v.name for v in await rig.engine.volumes()] == ["ec-pump_data"]
    await rig.job(await rig.send("app.install", instance="pump", manifest=text))
    await rig.job(await rig.send("app.remove", instance="pump", volumes=True))
    assert await rig.engine.volumes() == []


async def test_a_value_changes_only_its_container_and_says_where_it_came_from(rig: Rig) -> None:
    await install(rig, values={"LIMIT": 5})
    await rig.job(await rig.send("app.configure", Origin.LOCAL, instance="pump", values={"LIMIT": 4}))
    spec = rig.engine.spec_of(rig.engine.find("pump", "main")[0].id)
    assert dict(spec.environment)["LIMIT"] == "4"
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"] == {"value": 4, "source": "site"}


async def test_two_instances_run_from_one_manifest(rig: Rig) -> None:
    await install(rig)
    job = await rig.job(await rig.send("app.install", instance="pump-2", manifest=manifest("1"), values={"LIMIT": 3}))
    assert job.state is JobState.DONE
    assert [rig.serving("pump"), rig.serving("pump-2")] == [["pump:1"], ["pump:1"]]


async def test_after_a_reboot_offline_everything_runs_again(rig: Rig) -> None:
    await install(rig)
    await rig.send("app.install", instance="other", manifest=manifest("1"))
    await rig.until(lambda: rig.serving("other") == ["pump:1"], "another")
    await rig.kill()
    rig.engine.reboot()
    rig.engine.vanish("pump", "main")
    await rig.start()
    await rig.until(lambda: rig.serving() == ["pump:1"], "its return from disk alone")
    assert rig.serving("other") == ["pump:1"], "the one that the engine started"


async def test_containers_of_a_lost_state_file_are_left_alone(rig: Rig, tmp_path: Path) -> None:
    await install(rig)
    await rig.kill()
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    await rig.start()
    await rig.until(lambda: rig.room.reconciler.listed, "the engine")
    await rig.until(lambda: not rig.room.reconciler._tasks, "its first look")
    assert [c.state for c in rig.engine.find("pump", "main")] == [RunState.RUNNING]


async def test_what_was_done_for_a_job_can_be_read_step_by_step(rig: Rig) -> None:
    await install(rig)
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
    shown = (await rig.send("job.status", job=job.id)).data["steps"]
    assert [step["step"].split()[0] for step in shown] == ["create", "stop", "start", "remove"]
    assert {step["ended"] for step in shown} == {"done"}


AFTER = """\
name: pump
x-ec: {update: {health: {within: 5s, stable_for: 0s}}}
services:
  main: {image: "127.0.0.1:5000/pump:1", depends_on: {prepare: {condition: service_completed_successfully}}}
  prepare: {image: "127.0.0.1:5000/other:1", restart: "no"}
"""


async def test_a_service_starts_once_what_it_waits_for_has_completed(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=AFTER)
    await rig.until(lambda: any(c.serving for c in rig.engine.find("pump", "prepare")), "the first service")
    assert not any(c.serving for c in rig.engine.find("pump", "main"))
    rig.engine.crash("pump", "prepare", exit_code=0)
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:1"]
    assert rig.room.views.summary("pump")["phase"] == "running"
    await rig.restart()
    await rig.until(lambda: rig.room.reconciler.observed.get("pump") is not None, "a look after the restart")
    assert not any(c.serving for c in rig.engine.find("pump", "prepare")), "it had ended well and was run again"


async def test_a_service_that_fails_what_others_wait_for_fails_the_deployment(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=AFTER)
    await rig.until(lambda: any(c.serving for c in rig.engine.find("pump", "prepare")), "the first service")
    rig.engine.crash("pump", "prepare", exit_code=3)
    job = await rig.job(reply)
    assert job.state is JobState.FAILED
    assert "prepare ended with exit code 3; others wait for it to succeed" in job.message
