"""A service that runs and is not well is restarted; one that was killed for memory is said to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.container import Health, Restart
from tests.control.rig import Rig, manifest, running

UNHEALTHY = "app:pump/main/unhealthy"
CRASH_LOOP = "app:pump/main/crash_loop"
MEMORY = "app:pump/main/killed_for_memory"
PROBED = 'healthcheck: {test: ["CMD", "true"], interval: 1s}\nmem_limit: 64m'


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        job = await rig.send("app.install", instance="pump", manifest=manifest(extra=PROBED))
        await get_well(rig)
        await rig.job(job)
        yield rig


async def get_well(rig: Rig) -> None:
    await rig.until(lambda: bool(rig.serving()), "its start")
    rig.engine.become("pump", "main", Health.HEALTHY)


async def fall_ill(rig: Rig) -> str:
    """Let its probe fail; the start that the agent gave it then."""
    before = started(rig)
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    await rig.until(lambda: bool(rig.serving()) and started(rig) != before, "its restart")
    return started(rig)


def started(rig: Rig) -> str:
    return rig.engine.find("pump", "main")[0].started_at


async def test_an_unhealthy_service_is_restarted_under_one_alarm(rig: Rig) -> None:
    await fall_ill(rig)
    assert rig.alarms.raised == [UNHEALTHY]
    assert rig.engine.find("pump", "main")[0].live.restart is Restart.UNLESS_STOPPED, (
        "a crash stays the engine's affair"
    )
    for _ in range(2):
        await fall_ill(rig)
    assert rig.alarms.raised == [UNHEALTHY]
    assert rig.engine.find("pump", "main")[0].live.restart is Restart.UNLESS_STOPPED, "our own stops are no crashes"


async def test_the_episode_ends_when_it_has_been_healthy_for_a_while_and_not_when_it_only_runs(rig: Rig) -> None:
    await fall_ill(rig)
    await asyncio.sleep(0.6)
    assert UNHEALTHY in rig.alarms.standing, "its probe has not said anything yet"
    rig.engine.become("pump", "main", Health.HEALTHY)
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")


async def test_illness_counts_with_crashes_and_its_loop_is_the_same_episode(rig: Rig) -> None:
    await fall_ill(rig)
    for _ in range(3):
        await rig.until(lambda: bool(rig.serving()), "its restart")
        rig.engine.crash("pump", "main")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "crash_loop", "the take-over")
    await rig.until(lambda: bool(rig.serving()), "the agent's own restart")
    assert rig.alarms.raised == [UNHEALTHY]


async def test_a_version_on_trial_is_judged_by_its_gate_and_not_restarted(rig: Rig) -> None:
    sick = manifest(version="2", extra=PROBED)
    reply = await rig.send("app.upgrade", instance="pump", manifest=sick)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state == "rolled_back"
    assert UNHEALTHY not in rig.alarms.raised


async def test_a_stopped_service_is_not_restarted_and_its_alarm_is_cleared(rig: Rig) -> None:
    await fall_ill(rig)
    await rig.job(await rig.send("app.stop", instance="pump"))
    assert rig.alarms.standing == {}
    assert not rig.serving()


async def test_a_restart_that_was_cut_off_after_its_stop_ends_in_a_start(rig: Rig) -> None:
    gate = rig.engine.faults.pause("start")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    await gate.reached.wait()
    assert not rig.serving()
    await rig.restart()
    await rig.until(lambda: bool(rig.serving()), "its start by the next agent")


async def test_an_alarm_of_an_earlier_agent_is_not_raised_twice_and_ends_with_its_episode(rig: Rig) -> None:
    await fall_ill(rig)
    await rig.restart()
    await rig.until(lambda: "pump" in rig.room.reconciler.observed, "its adoption")
    assert rig.alarms.raised == [UNHEALTHY]
    rig.engine.become("pump", "main", Health.HEALTHY)
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")


async def test_a_promised_heartbeat_that_stays_away_restarts_the_service(rig: Rig) -> None:
    before = started(rig)
    rig.doors.overdue["pump", "main"] = 7.0
    rig.room.reconciler.touch("pump")
    await rig.until(lambda: bool(rig.serving()) and started(rig) != before, "its restart")
    assert rig.doors.overdue == {}, "what it had promised is void"
    assert "7 s late" in rig.alarms.standing[UNHEALTHY].message


async def test_a_kill_for_memory_is_told_apart_even_when_the_service_ends_with_0(rig: Rig) -> None:
    rig.engine.crash("pump", "main", exit_code=0, oom=True)
    await rig.until(lambda: MEMORY in rig.alarms.standing, "the alarm")
    assert "killed for memory (limit 64 MiB)" in rig.alarms.standing[MEMORY].message
    assert rig.room.views.detail("pump")["services"][0]["ended"] == "killed for memory (limit 64 MiB)"
    await get_well(rig)
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")


async def test_a_kill_for_memory_that_no_event_told_is_read_off_the_container(rig: Rig) -> None:
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2", extra='restart: "no"')))
    assert job.state == "done"
    await rig.kill()
    rig.engine.crash("pump", "main", exit_code=0, oom=True)
    await rig.start()
    await rig.until(lambda: MEMORY in rig.alarms.standing, "the alarm of an agent that was away when it happened")
    assert "killed for memory (limit 64 MiB)" in rig.alarms.standing[MEMORY].message


async def test_a_child_killed_for_memory_is_told_while_the_service_runs_on(rig: Rig) -> None:
    before = started(rig)
    rig.engine.kill_child_for_memory("pump", "main")
    await rig.until(lambda: MEMORY in rig.alarms.standing, "the alarm")
    assert rig.room.views.detail("pump")["services"][0]["ended"] == "killed for memory (limit 64 MiB)"
    assert started(rig) == before


async def test_a_loop_of_kills_for_memory_says_so_in_its_one_standing_alarm(rig: Rig) -> None:
    for _ in range(4):
        await rig.until(lambda: bool(rig.serving()), "its restart")
        rig.engine.crash("pump", "main", exit_code=137, oom=True)
    await rig.until(lambda: CRASH_LOOP in rig.alarms.standing, "the alarm")
    await rig.until(lambda: list(rig.alarms.standing) == [CRASH_LOOP], "the end of the other one")
    assert "killed for memory (limit 64 MiB)" in rig.alarms.standing[CRASH_LOOP].message
