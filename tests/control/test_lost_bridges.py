"""A bridge that somebody deletes: the agent notices by itself, mends it without a restart, and blames no release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.container import Health
from agent.errors import NoSpace, Unreachable
from tests.control.rig import CARE, Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


def networked(version: str) -> str:
    """A manifest whose service has a network of the APP's own."""
    return manifest(version).replace("  version:", "  network: outbound\n  version:")


async def install(rig: Rig) -> str:
    """It runs; the name of its network."""
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=networked("1")))
    assert job.state is JobState.DONE, job
    (network,) = await rig.engine.networks("pump")
    return network.name


async def ports(rig: Rig) -> list[int]:
    return list((await rig.engine.bridge_ports() or {}).values())


async def wait_for_ports(rig: Rig, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while await ports(rig) != [1]:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("remade", [False, True])
async def test_at_rest_it_is_noticed_and_mended_without_a_restart(rig: Rig, remade: bool) -> None:
    network = await install(rig)
    (before,) = rig.engine.find("pump", "main")
    rig.engine.bridges.lose(network)
    if remade:
        rig.engine.bridges.make(network)
    await wait_for_ports(rig)
    (after,) = rig.engine.find("pump", "main")
    assert (after.id, after.started_at, after.networks) == (before.id, before.started_at, (network,))
    await rig.until(lambda: "pump" not in rig.room.reconciler.errors, "no trouble left")
    assert rig.alarms.raised == []


async def test_what_fails_while_it_is_mended_is_an_alarm_and_tried_again(rig: Rig) -> None:
    network = await install(rig)
    rig.engine.fail_next("create_network", NoSpace("engine.no_space", "no space left on device"))
    rig.engine.bridges.lose(network)
    await wait_for_ports(rig)
    await rig.until(lambda: rig.plane.alarms.active() == [], "the alarm is over")
    assert rig.alarms.raised == ["engine/no_space"]


async def test_what_runs_well_is_left_alone_at_every_look(rig: Rig) -> None:
    """Five looks at the host and not one question to the engine, once the installation's last pass is over."""
    await install(rig)
    asked: list[int] = []
    while 0 not in asked and len(asked) < 10:
        calls = len(rig.engine.log)
        await asyncio.sleep(0.5)
        asked.append(len(rig.engine.log) - calls)
    assert 0 in asked


async def test_a_first_installation_whose_bridge_is_deleted_on_the_way_ends_with_it_working(rig: Rig) -> None:
    """As `ip link del` between the making of the network and the start: the engine's fault, not the release's."""
    gate = rig.engine.faults.pause("start")
    reply = await rig.send("app.install", instance="pump", manifest=networked("1"))
    await gate.reached.wait()
    (network,) = await rig.engine.networks("pump")
    rig.engine.bridges.lose(network.name)
    gate.open()
    job = await rig.job(reply)
    assert (job.state, rig.serving()) == (JobState.DONE, ["pump:1"])
    await rig.until(lambda: rig.plane.alarms.active() == [], "the alarm is over")
    assert rig.alarms.raised == ["engine/bridge_missing"]


async def test_a_version_on_trial_that_is_unhealthy_for_want_of_its_bridge_is_watched_anew(rig: Rig) -> None:
    """It is started again on a network that joins; else its gate would hold the engine's fault against the release."""
    text = networked("1").replace("within: 3s, stable_for: 0s", "within: 20s, stable_for: 2s")
    reply = await rig.send("app.install", instance="pump", manifest=text)
    await rig.until(lambda: rig.serving() == ["pump:1"], "the trial")
    (network,) = await rig.engine.networks("pump")
    rig.engine.bridges.lose(network.name)
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    job = await rig.job(reply)
    assert (job.state, rig.serving(), await ports(rig)) == (JobState.DONE, ["pump:1"], [1])
    assert [each.failed for each in rig.room.ledger.releases.values()] == [""]


async def test_a_version_that_is_unhealthy_on_a_network_that_joins_is_its_own_fault(rig: Rig) -> None:
    text = networked("1").replace("within: 3s, stable_for: 0s", "within: 20s, stable_for: 2s")
    reply = await rig.send("app.install", instance="pump", manifest=text)
    await rig.until(lambda: rig.serving() == ["pump:1"], "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    job = await rig.job(reply)
    assert (job.state, "main is unhealthy" in job.message) == (JobState.FAILED, True)


async def test_a_bridge_that_comes_back_late_costs_no_installation(rig: Rig) -> None:
    """Not one of the APP's own: only the engine can bring it back, and the job waits for it."""
    rig.engine.fail_next("start", Unreachable("engine.bridge_missing", "could not find bridge docker0"), times=2)
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=networked("1")))
    assert (job.state, rig.serving()) == (JobState.DONE, ["pump:1"])


async def test_a_network_that_no_remaking_helps_is_made_anew_less_and_less_often_and_that_is_said_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await install(rig)

    def made() -> int:
        return len([op for op, _ in rig.engine.log if op == "create_network"]) - 1

    looked = rig.engine.bridges.looks
    rig.engine.bridges.unplugged = True
    await rig.until(lambda: made() >= 3 and rig.engine.bridges.looks >= looked + 40, "many looks", within_s=60)
    assert made() <= 8
    assert len([r for r in caplog.records if r.getMessage().startswith("network_is_cut_again")]) == 1
    rig.engine.bridges.unplugged = False
    await wait_for_ports(rig)


async def test_what_was_suspected_of_a_removed_app_is_not_asked_of_the_next_of_its_name(tmp_path: Path) -> None:
    async with running(tmp_path, replace(CARE, bridges_s=3600)) as rig:
        rig.engine.bridges.elsewhere = True  # a suspicion that nobody can look into stays
        rig.engine.fail_next("start", Unreachable("engine.bridge_missing", "could not find bridge docker0"), times=99)
        await rig.send("app.install", instance="pump", manifest=networked("1"))
        await rig.until(lambda: rig.engine.bridges.looks > 0, "the suspicion")
        await rig.job(await rig.send("app.remove", instance="pump"))
        rig.engine.faults.clear()
        looks = rig.engine.bridges.looks
        await install(rig)
        assert rig.engine.bridges.looks == looks
