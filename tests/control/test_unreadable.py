"""A release that this agent can no longer read is its instance's trouble alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.container import Health
from agent.domain.journal import Change
from agent.errors import Failed
from agent.ports import Room
from tests.control.rig import SLOW, Rig, manifest, running
from tests.control.test_data_goes_back import DATA, with_data
from tests.control.test_facts import inbound


async def spoil(rig: Rig, instance: str, *, boot: bool = False) -> None:
    """Another agent comes, whose reader refuses what the one before had accepted; with `boot` after a boot of the machine."""
    current = rig.room.ledger.desired[instance].current
    assert current is not None
    stored = replace(rig.room.ledger.releases[current.release], text="name: [")
    await rig.room.ledger.decide(lambda: Change(releases=(stored,)))
    await rig.kill()
    if boot:
        rig.host.boot_id += "x"
        rig.engine.reboot()
    await rig.start()


async def test_others_are_installed_beside_it_and_everything_is_still_told(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="old", manifest=manifest("1")))
        await spoil(rig, "old")
        job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("2")))
        assert (job.state, job.message) == (JobState.DONE, "")
        listed = (await rig.send("app.list")).data
        assert [each["instance"] for each in listed] == ["old", "pump"]
        assert (await rig.send("app.status", instance="old")).code == 200
        assert list(rig.room.gateway.index()["apps"]) == ["old", "pump"]


async def test_a_version_on_trial_that_cannot_be_read_any_more_goes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=SLOW))
        await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")
        await spoil(rig, "pump")
        assert (await rig.job(reply)).state is JobState.ROLLED_BACK
        assert rig.serving() == ["pump:1"]


async def test_it_can_be_stopped_upgraded_and_removed_and_is_not_stopped_by_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        await spoil(rig, "pump")
        again = await rig.send("app.restart", instance="pump")
        assert (again.code, "not YAML" in again.msg, rig.serving()) == (400, True, ["pump:1"])
        assert (await rig.job(await rig.send("app.stop", instance="pump"))).state is JobState.DONE
        assert (rig.serving(), rig.room.views.summary("pump")["phase"]) == ([], "held")
        await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
        assert (await rig.job(await rig.send("app.start", instance="pump"))).state is JobState.DONE
        assert rig.serving() == ["pump:2"]
        await spoil(rig, "pump")
        assert (await rig.job(await rig.send("app.remove", instance="pump"))).state is JobState.DONE
        assert rig.engine.find("pump", "main") == []


async def test_data_on_their_way_back_come_back_though_the_version_they_belong_to_cannot_be_read(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=with_data("1")))
        rig.engine.disk[DATA] = {"kept": "precious"}
        await rig.send("app.upgrade", instance="pump", manifest=with_data("2", SLOW))
        await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
        rig.engine.disk[DATA].clear()
        rig.snapshots.fail_next("restore", Failed("snapshot.failed", "Input/output error"), times=1000)
        rig.engine.become("pump", "main", Health.UNHEALTHY)
        await rig.until(lambda: rig.room.ledger.desired["pump"].restore != "", "data to go back")
        await spoil(rig, "pump")
        rig.snapshots.faults.clear()
        assert (await rig.job(await rig.send("app.stop", instance="pump"))).state is JobState.DONE
        assert (rig.serving(), rig.engine.disk[DATA]) == ([], {"kept": "precious"})
        assert rig.room.ledger.desired["pump"].restore == ""


@pytest.mark.parametrize("stopped", [False, True])
async def test_it_does_not_keep_the_boot_from_being_done_with(tmp_path: Path, stopped: bool) -> None:
    """Else the next agent of the same boot would take a crash of any APP for what the boot had left out of order."""
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        if stopped:
            await rig.job(await rig.send("app.stop", instance="pump"))
        await spoil(rig, "pump", boot=True)
        await rig.until(lambda: rig.room.ledger.meta["boot_id"] == rig.host.boot_id, "the end of the boot")
        assert rig.serving() == ([] if stopped else ["pump:1"])


async def test_what_of_it_runs_holds_its_memory_and_its_ports_and_can_be_upgraded_on_them(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        # The fake gateway has 2 GiB: twice what is left beside the reserve of 128 MiB is 3,840 MiB.
        big = "mem_limit: 1900m"
        await rig.job(await rig.send("app.install", instance="pump", manifest=inbound(8080, extra=big)))
        await spoil(rig, "pump")
        await rig.until(lambda: "pump" in rig.room.reconciler.observed, "the look")
        rig.host.left = Room(listening=frozenset({(8080, "tcp", "0.0.0.0")}))
        thief = await rig.send("app.install", instance="thief", manifest=inbound(8080, "thief"))
        assert (thief.code, "taken by instance pump" in thief.msg) == (403, True)
        await rig.job(await rig.send("app.install", instance="two", manifest=manifest(extra=big)))
        three = await rig.send("app.install", instance="three", manifest=manifest(extra=big))
        assert (three.code, "the other APPs were promised 3800 MiB" in three.msg) == (403, True)
        upgrade = inbound(8080).replace("pump:1", "pump:2")
        assert (await rig.job(await rig.send("app.upgrade", instance="pump", manifest=upgrade))).state is JobState.DONE
        assert rig.serving() == ["pump:2"]
