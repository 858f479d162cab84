"""One APP's failure is that APP's problem alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.container import Restart, RunState
from agent.errors import TimedOut, Unreachable
from tests.control.rig import CARE, FAST, REGISTRY, Rig, manifest, running

ALARM = "app:pump/main/crash_loop"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
        yield rig


def policy(rig: Rig) -> Restart:
    return rig.engine.find("pump", "main")[0].live.restart


async def loop(rig: Rig) -> None:
    """Crash it until the agent takes over."""
    for _ in range(4):
        await rig.until(lambda: bool(rig.serving()), "its restart")
        rig.engine.crash("pump", "main")
    await rig.until(lambda: policy(rig) is Restart.NO, "the take-over")


async def test_a_crash_is_the_engines_affair_and_no_alarm(rig: Rig) -> None:
    rig.engine.crash("pump", "main")
    await rig.until(lambda: bool(rig.serving()), "its restart")
    assert rig.alarms.raised == []


async def test_a_crash_loop_is_taken_over_backed_off_and_raises_one_alarm(rig: Rig) -> None:
    await loop(rig)
    await rig.until(lambda: bool(rig.serving()), "the agent's own restart")
    assert rig.alarms.raised == [ALARM]
    assert rig.room.views.summary("pump")["phase"] == "crash_loop"
    for _ in range(3):
        rig.engine.crash("pump", "main")
        await rig.until(lambda: bool(rig.serving()), "another restart")
    assert rig.alarms.raised == [ALARM]


async def test_after_a_healthy_time_the_engine_owns_restarts_again_and_the_alarm_is_cleared(rig: Rig) -> None:
    await loop(rig)
    await rig.until(lambda: policy(rig) is Restart.UNLESS_STOPPED, "the policy's return")
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")
    assert rig.room.views.summary("pump")["phase"] == "running"


async def test_a_loop_goes_on_under_a_new_agent(rig: Rig) -> None:
    await loop(rig)
    await rig.kill()
    await rig.start()
    await rig.until(lambda: bool(rig.serving()), "its restart by the new agent")
    await rig.until(lambda: policy(rig) is Restart.UNLESS_STOPPED, "the healthy time")
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")
    assert rig.alarms.raised == [ALARM], "one episode, whichever agent sees it"


async def test_a_loop_ends_with_a_stop_and_its_alarm_with_it(rig: Rig) -> None:
    await loop(rig)
    await rig.job(await rig.send("app.stop", instance="pump"))
    assert rig.alarms.standing == {}
    assert not rig.serving()


async def test_how_the_version_on_trial_crashed_is_no_loop_of_the_one_that_comes_back(rig: Rig) -> None:
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health="within: 5s, stable_for: 3s"))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")
    for _ in range(FAST.deaths):
        rig.engine.crash("pump", "main")
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    assert rig.serving() == ["pump:1"]
    assert rig.room.views.summary("pump")["phase"] == "running"
    assert rig.alarms.raised == []


async def test_killing_the_agent_restarts_nothing(rig: Rig) -> None:
    before = rig.engine.find("pump", "main")[0]
    await rig.restart()
    await rig.until(lambda: rig.room.reconciler.listed, "the engine")
    await rig.until(lambda: "pump" in rig.room.reconciler.observed, "its adoption")
    after = rig.engine.find("pump", "main")[0]
    assert (after.id, after.started_at, after.live) == (before.id, before.started_at, before.live)


async def test_an_engine_that_does_not_answer_is_one_alarm_until_it_does(rig: Rig) -> None:
    watch = rig.room.engine
    rig.engine.drop()
    task = asyncio.create_task(watch.run(0.02))
    await rig.until(lambda: "engine/unreachable" in rig.alarms.standing, "the alarm")
    assert not watch.up
    rig.engine.restore()
    await rig.until(lambda: watch.up and rig.alarms.standing == {}, "its end")
    assert rig.alarms.raised == ["engine/unreachable"]
    task.cancel()


async def test_an_engine_that_comes_after_the_agent_is_known_to_admission(rig: Rig) -> None:
    await rig.kill()
    rig.engine.drop()
    await rig.start()
    greedy = manifest(extra="mem_limit: 3g")
    assert (await rig.send("app.plan", instance="greedy", manifest=greedy)).ok
    rig.engine.restore()
    await rig.room.engine.ask()
    refused = await rig.send("app.plan", instance="greedy", manifest=greedy)
    assert (refused.code, refused.data["code"]) == (403, "admission.memory")


async def test_a_lost_bridge_is_named_in_one_alarm_and_tried_again(rig: Rig) -> None:
    lost = Unreachable("engine.bridge_missing", "could not find bridge docker0", hint="restart the engine")
    rig.engine.fail_next("start", lost, times=2)
    await rig.send("app.stop", instance="pump")
    await rig.until(lambda: not rig.serving(), "its stop")
    reply = await rig.send("app.start", instance="pump")
    await rig.until(lambda: "engine/bridge_missing" in rig.alarms.standing, "the alarm")
    await rig.job(reply)
    await rig.until(lambda: rig.alarms.standing == {}, "its end")
    assert rig.alarms.raised == ["engine/bridge_missing"]


async def test_the_engine_going_away_and_coming_back_is_followed(rig: Rig) -> None:
    rig.engine.drop()
    rig.engine.restore()
    rig.engine.vanish("pump", "main")
    await rig.until(lambda: bool(rig.serving()), "its return")
    assert rig.serving() == ["pump:1"]


PAIR = f"""\
name: pump
x-ec: {{version: "1", update: {{health: {{within: 5s, stable_for: 0s}}}}}}
services:
  main: {{image: "{REGISTRY}/pump:1"}}
  side: {{image: "{REGISTRY}/pump:1"}}
"""


async def test_being_plugged_by_hand_is_put_right_without_a_restart(rig: Rig) -> None:
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=PAIR))
    before = rig.engine.find("pump", "side")
    (own,) = before[0].networks or ()
    rig.engine.plug("pump", "side", own, off=True)
    rig.engine.plug("pump", "side", "bridge")
    starts = len([op for op, _ in rig.engine.log if op == "start"])
    await rig.until(lambda: rig.engine.find("pump", "side") == before, "its own network and no other")
    assert len([op for op, _ in rig.engine.log if op == "start"]) == starts


async def test_leftovers_go_also_when_the_first_list_failed(rig: Rig) -> None:
    spec = rig.engine.spec_of(rig.engine.find("pump", "main")[0].id)
    await rig.kill()
    await rig.engine.create(replace(spec, instance="gone", name="ec.gone.main"))
    rig.engine.fail_next("containers", TimedOut("engine.timeout", "slow"))
    await rig.start()
    await rig.until(lambda: not rig.engine.find("gone", "main"), "the leftover to go")
    assert rig.serving() == ["pump:1"]


async def test_a_crash_after_a_pause_that_was_lifted_counts(tmp_path: Path) -> None:
    async with running(tmp_path, replace(CARE, restarts=replace(FAST, deaths=1))) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        rig.engine.pause("pump", "main")
        await rig.until(lambda: rig.engine.find("pump", "main")[0].state is RunState.RUNNING, "its going on")
        rig.engine.crash("pump", "main")
        await rig.until(lambda: "app:pump/main/crash_loop" in rig.alarms.raised, "the alarm", within_s=3)
        assert rig.alarms.raised == ["app:pump/main/crash_loop"]
