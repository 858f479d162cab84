"""How long others wait for a service, and a deployment for its health: as long as there is hope, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.container import Health, RunState
from tests.control.rig import REGISTRY, Rig, running
from tests.fakes.hand_clock import HandClock

SLOW = "healthcheck: {test: [CMD, 'true'], start_period: 200s}"
PAIR = f"""\
name: pump
x-ec: {{update: {{health: {{stable_for: 0s}}}}}}
services:
  web: {{image: "{REGISTRY}/pump:1", depends_on: {{db: {{condition: service_healthy}}}}}}
  db:
    image: "{REGISTRY}/other:1"
    """


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path, clock=HandClock()) as rig:
        yield rig


async def looks(rig: Rig) -> None:
    """It has looked at the containers several times since."""
    seen = len(rig.engine.log)
    await rig.until(lambda: rig.engine.log[seen:].count(("containers", "pump")) >= 3, "some looks")


async def pass_time(rig: Rig, seconds: float) -> None:
    await looks(rig)
    assert isinstance(rig.clock, HandClock)
    rig.clock.mono_s += seconds
    await looks(rig)


def states(rig: Rig, service: str) -> list[RunState]:
    return [each.state for each in rig.engine.find("pump", service)]


async def test_others_wait_as_long_as_a_healthcheck_is_starting(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=PAIR + SLOW)
    await rig.until(lambda: states(rig, "db") == [RunState.RUNNING], "the slow one")
    await pass_time(rig, 230)
    assert states(rig, "web") == [RunState.CREATED]
    rig.engine.become("pump", "db", Health.HEALTHY)
    assert (await rig.job(reply)).state is JobState.DONE
    assert states(rig, "web") == [RunState.RUNNING]


async def test_the_health_gate_waits_too_where_no_time_is_stated(rig: Rig) -> None:
    alone = f"""\
name: pump
x-ec: {{update: {{health: {{stable_for: 0s}}}}}}
services:
  db: {{image: "{REGISTRY}/other:1", {SLOW}}}
"""
    reply = await rig.send("app.install", instance="pump", manifest=alone)
    await rig.until(lambda: states(rig, "db") == [RunState.RUNNING], "the slow one")
    await pass_time(rig, 230)
    rig.engine.become("pump", "db", Health.HEALTHY)
    assert (await rig.job(reply)).state is JobState.DONE


async def test_one_that_is_not_on_its_way_is_given_up(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=PAIR + SLOW)
    await rig.until(lambda: states(rig, "db") == [RunState.RUNNING], "the slow one")
    rig.engine.hold_restarts = True
    rig.engine.crash("pump", "db")
    await pass_time(rig, 121)
    job = await rig.job(reply)
    assert (job.state, "db is not healthy after 120 s" in job.message) == (JobState.FAILED, True), job.message


async def test_whoever_waits_is_overtaken_by_another_decision(rig: Rig) -> None:
    await rig.send("app.install", instance="pump", manifest=PAIR + SLOW)
    await rig.until(lambda: states(rig, "db") == [RunState.RUNNING], "the slow one")
    await rig.job(await rig.send("app.remove", instance="pump"))
    assert states(rig, "db") == []


async def test_what_has_no_healthcheck_is_not_waited_for_and_not_blamed(rig: Rig) -> None:
    for _ in range(2):
        reply = await rig.send("app.install", instance="pump", manifest=PAIR)
        job = await rig.job(reply)
        assert job.state is JobState.FAILED
        assert "web waits for db to be healthy, and db has no healthcheck" in job.message
        assert rig.engine.find("pump", "db") == []


async def test_one_that_lost_its_healthcheck_after_admission_fails_at_once_and_is_not_remembered_as_bad(
    rig: Rig,
) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=PAIR + SLOW)
    await rig.until(lambda: states(rig, "db") == [RunState.RUNNING], "the slow one")
    rig.engine.become("pump", "db", Health.NONE)
    job = await rig.job(reply)
    assert (job.state, "db has no healthcheck" in job.message) == (JobState.FAILED, True), job.message
    assert [each.failed for each in rig.room.ledger.releases.values()] == [""]
