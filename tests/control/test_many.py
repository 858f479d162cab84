"""One change among many APPs costs what it costs alone: nothing is asked, planned or written for the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.journal import Change
from tests.control.rig import Rig, manifest, running

MANY = 20
SMALL = manifest(extra="mem_limit: 16m")
CHANGING = ("create", "stop", "start", "remove")
EVERYWHERE = {"info", "ping", "assure_isolation"}
"""What is asked of the engine as such, now and then."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


async def test_one_upgrade_among_many_asks_plans_and_writes_nothing_for_the_others(rig: Rig) -> None:
    for number in range(MANY):
        await rig.job(await rig.send("app.install", instance=f"pump-{number}", manifest=SMALL))
    # The one that came last: what the engine may still tell of an installation is told of itself.
    name, upgrade = f"pump-{MANY - 1}", SMALL.replace("pump:1", "pump:2")
    before = len(rig.engine.log)
    changes: list[Change] = []
    looked_at: list[str] = []
    rig.room.ledger.listen(changes.append)
    rig.room.reconciler.watch(looked_at.append)
    job = await rig.job(await rig.send("app.upgrade", instance=name, manifest=upgrade))
    assert job.state is JobState.DONE
    assert {desired.name for change in changes for desired in change.desired} == {name}
    assert {each.instance for change in changes for each in change.jobs} == {name}
    assert set(looked_at) == {name}
    asked = [(op, subject) for op, subject in rig.engine.log[before:] if op not in EVERYWHERE]
    made = {subject for op, subject in asked if op in CHANGING}
    assert {subject for _, subject in asked} - made == {name}
    changed = [op for op, _ in asked if op in CHANGING]
    assert sorted(changed) == sorted(CHANGING)
