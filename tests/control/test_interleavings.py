"""What one decision finds when another was taken while it waited: the newest counts, and nobody waits for a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.container import Health
from agent.errors import Failed
from tests.control.rig import REGISTRY, Rig, manifest, running

PAIR = f"""\
name: pair
services:
  db:
    image: {REGISTRY}/pump:1
    healthcheck: {{test: [CMD, "true"], interval: 1s}}
  web:
    image: {REGISTRY}/other:1
    depends_on: {{db: {{condition: service_healthy}}}}
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_an_app_that_stays_after_all_keeps_the_door_that_its_containers_have_mounted(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    gate = rig.engine.faults.pause("stop")
    await rig.send("app.remove", instance="pump")
    await asyncio.wait_for(gate.reached.wait(), 10)
    reply = await rig.send("app.start", instance="pump")
    gate.open()
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:1"]
    assert (rig.doors.closed, list(rig.doors.open_now)) == ([], ["pump"])


async def test_who_waits_for_a_neighbour_of_its_own_keeps_no_other_app_waiting(rig: Rig) -> None:
    for number in range(6):
        await rig.send("app.install", instance=f"pair-{number}", manifest=PAIR)
    await rig.until(lambda: all(rig.engine.find(f"pair-{n}", "db") for n in range(4)), "the first services")
    reply = await rig.send("app.install", instance="pump", manifest=manifest("1"))
    assert (await rig.job(reply)).state is JobState.DONE
    for number in range(6):
        await rig.until(lambda n=number: bool(rig.engine.find(f"pair-{n}", "db")), "each first service")  # type: ignore[misc]
        rig.engine.become(f"pair-{number}", "db", Health.HEALTHY)


async def test_new_values_that_meet_a_verdict_are_those_of_the_version_that_won(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    text = manifest("2", health="within: 5s, stable_for: 4s")
    await rig.send("app.upgrade", instance="pump", manifest=text)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")
    room = rig.host.faults.pause("room")
    reply = await rig.send("app.configure", instance="pump", values={"LIMIT": 9})
    await asyncio.wait_for(room.reached.wait(), 10)
    bad = rig.room.ledger.desired["pump"].current
    assert bad is not None
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    await rig.until(lambda: rig.room.ledger.desired["pump"].current != bad, "the verdict")
    room.open()
    job = await rig.job(reply)
    assert (job.state, rig.serving()) == (JobState.DONE, ["pump:1"])
    assert rig.room.ledger.releases.get(bad.release) is None or rig.room.catalog.failure(bad.release)
    current = rig.room.ledger.desired["pump"].current
    assert current is not None
    assert current.cloud.values == {"LIMIT": 9}


async def test_what_fails_of_the_old_version_is_not_held_against_the_one_that_was_wanted_meanwhile(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    gate = rig.engine.faults.pause("start")
    await rig.send("app.upgrade", instance="pump", manifest=manifest("2"))
    await asyncio.wait_for(gate.reached.wait(), 10)
    second = rig.room.ledger.get("pump").current
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("3"))
    await rig.until(lambda: rig.room.ledger.get("pump").current != second, "the third version is wanted")
    rig.engine.fail_next("start", Failed("engine.cannot_execute", "exec: no such file"))
    gate.open()
    assert (await rig.job(reply)).state is JobState.DONE
    assert rig.serving() == ["pump:3"]
    assert {stored.failed for stored in rig.room.ledger.releases.values()} == {""}
