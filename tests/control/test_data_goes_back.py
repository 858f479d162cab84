"""An upgrade that fails brings back release, values and the chosen volumes' data; start-first lets the old one serve."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import JobState
from agent.domain.container import ContainerSpec, Health
from agent.errors import Failed, GatewayError, NoSpace
from tests.control.rig import SLOW, Rig, manifest, running

DATA = "/fake/ec-pump_data"


def with_data(version: str, health: str = "within: 5s, stable_for: 0s") -> str:
    text = manifest(version, extra='volumes: ["data:/data"]', health=health) + "volumes: {data: {}}\n"
    return text.replace("  update:\n", "  update:\n    rollback: {volumes: [data]}\n")


def start_first(version: str, health: str = "within: 5s, stable_for: 0s") -> str:
    return manifest(version, health=health).replace("  update:\n", "  update:\n    strategy: start-first\n")


def write_version(rig: Rig) -> None:
    """Every container that starts overwrites the data with the digest it runs."""

    def write(spec: ContainerSpec) -> None:
        rig.engine.disk.setdefault(DATA, {})["by"] = spec.image

    rig.engine.on_start = write


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        write_version(rig)
        yield rig


async def deploy(rig: Rig, type_: str, text: str) -> Any:
    return await rig.send(type_, instance="pump", manifest=text)


async def test_data_that_a_failing_version_spoilt_come_back_and_its_copies_go(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    rig.engine.disk[DATA]["kept"] = "precious"
    reply = await deploy(rig, "app.upgrade", with_data("2", SLOW))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    rig.engine.disk[DATA].clear()
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    assert (rig.serving(), rig.engine.disk[DATA]["kept"]) == (["pump:1"], "precious")
    assert rig.snapshots.instances() == frozenset()


async def test_data_of_a_version_that_proved_itself_stay_and_the_copies_go(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    before = dict(rig.engine.disk[DATA])
    assert (await rig.job(await deploy(rig, "app.upgrade", with_data("2")))).state is JobState.DONE
    assert rig.engine.disk[DATA] != before
    assert rig.snapshots.instances() == frozenset()


async def test_going_back_by_hand_from_a_trial_brings_the_data_back_too(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    rig.engine.disk[DATA]["kept"] = "precious"
    await deploy(rig, "app.upgrade", with_data("2", SLOW))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    rig.engine.disk[DATA].clear()
    assert (await rig.job(await rig.send("app.rollback", instance="pump"))).state is JobState.DONE
    assert (rig.serving(), rig.engine.disk[DATA]["kept"]) == (["pump:1"], "precious")


@pytest.mark.parametrize(
    ("op", "error"),
    [
        ("reserve", NoSpace("snapshot.no_space", "no room")),
        ("take", Failed("snapshot.failed", "No space left on device")),
    ],
)
async def test_data_that_cannot_be_kept_stop_the_upgrade_and_not_the_app(rig: Rig, op: str, error: Any) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    (before,) = rig.engine.find("pump", "main")
    rig.snapshots.fail_next(op, error)
    job = await rig.job(await deploy(rig, "app.upgrade", with_data("2")))
    assert (job.state, error.message in job.message) == (JobState.ROLLED_BACK, True)
    (after,) = rig.engine.find("pump", "main")
    assert (after.id, after.started_at == before.started_at) == (before.id, op == "reserve")
    assert not any(stored.failed for stored in rig.room.ledger.releases.values())


@pytest.mark.parametrize(
    "error", [Failed("snapshot.failed", "Read-only file system"), NoSpace("snapshot.no_space", "")]
)
async def test_copies_that_cannot_be_forgotten_keep_no_job_open(rig: Rig, error: GatewayError) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    rig.snapshots.fail_next("drop", error, times=1000)
    assert (await rig.job(await deploy(rig, "app.upgrade", with_data("2")))).state is JobState.DONE
    assert rig.serving() == ["pump:2"]
    assert rig.snapshots.instances() == {"pump"}
    assert (await rig.job(await rig.send("app.remove", instance="pump"))).state is JobState.DONE
    assert "pump" not in rig.room.ledger.desired


async def test_removal_takes_copies_along(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    await deploy(rig, "app.upgrade", with_data("2", SLOW))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    assert rig.snapshots.instances() == {"pump"}
    await rig.job(await rig.send("app.remove", instance="pump"))
    assert rig.snapshots.instances() == frozenset()


async def test_start_first_stops_the_old_one_only_after_the_new_one_has_proved_itself(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", start_first("1")))
    reply = await deploy(rig, "app.upgrade", start_first("2", "within: 20s, stable_for: 1s"))
    await rig.until(lambda: rig.serving() == ["pump:1", "pump:2"], "both")
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:2"]


async def test_start_first_that_fails_never_stopped_the_old_one(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", start_first("1")))
    (before,) = rig.engine.find("pump", "main")
    reply = await deploy(rig, "app.upgrade", start_first("2", SLOW))
    await rig.until(lambda: rig.room.ledger.get("pump").windows == 1, "the gate")
    await rig.restart()
    await rig.until(lambda: rig.room.ledger.get("pump").windows == 2, "the gate of the new agent")
    assert rig.serving() == ["pump:1", "pump:2"]
    await rig.send("job.cancel", job=reply.job)
    await rig.until(lambda: rig.engine.find("pump", "main") == [before], "the old one alone, as it was")


async def test_a_volume_that_was_never_made_before_its_trial_was_given_up_is_not_told_as_lost(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", manifest("1")))
    text = with_data("2").replace("rollback: {volumes: [data]}", "rollback: {automatic: false}")
    rig.engine.fail_next("create_volume", Failed("engine.refused", "the driver of volumes says no"))
    assert (await rig.job(await deploy(rig, "app.upgrade", text))).state is JobState.FAILED
    await rig.until(lambda: rig.serving() == ["pump:2"], "its start once the volume can be made")
    assert [alarm for alarm in rig.alarms.raised if "data_gone" in alarm] == []


async def test_a_lost_volume_that_cannot_be_made_again_at_once_is_told_once(rig: Rig) -> None:
    await rig.job(await deploy(rig, "app.install", with_data("1")))
    (volume,) = await rig.engine.volumes("pump")
    rig.engine.fail_next("create_volume", NoSpace("engine.no_space", "no space left on device"), times=3)
    (container,) = rig.engine.find("pump", "main")
    await rig.engine.remove(container.id)
    await rig.engine.remove_volume(volume.name)
    await rig.until(lambda: rig.engine.faults.planned("create_volume") == 0, "three tries in vain")
    await rig.until(lambda: rig.serving() == ["pump:1"], "its start on another volume")
    assert rig.alarms.standing[f"app:pump/{volume.name}/data_gone"].count == 1
