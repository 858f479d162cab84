"""The cloud's declared state: every part of a revision happens, and what is refused is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.errors import Unreachable
from agent.ports import DesiredApp, DesiredIndex, DesiredRelease
from tests.control.rig import Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def wish(rig: Rig, revision: int, app: DesiredApp | None, version: str = "1") -> None:
    """Declare `pump`, and wait until all that follows is over."""
    await rig.room.wishes.take_release(DesiredRelease("pump", manifest(version)))
    await rig.room.wishes.take_index(DesiredIndex(revision, {"pump": app}, {}))
    await rig.until(lambda: all(job.state.final for job in rig.room.ledger.jobs.values()), "the end of all jobs")


async def test_a_new_instance_that_shall_stand_still_is_installed_and_not_started(rig: Rig) -> None:
    await wish(rig, 1, DesiredApp("", "stopped", {}))
    assert (rig.serving(), rig.room.wishes.refused) == ([], {})
    assert rig.room.views.summary("pump")["phase"] == "held"
    await wish(rig, 2, DesiredApp("", "running", {}))
    assert rig.serving() == ["pump:1"]


async def test_a_stopped_instance_is_upgraded_and_started_in_one_revision(rig: Rig) -> None:
    await wish(rig, 1, DesiredApp("", "running", {}))
    await rig.job(await rig.send("app.stop", instance="pump"))
    await wish(rig, 2, DesiredApp("", "running", {}), "2")
    assert rig.serving() == ["pump:2"]
    upgrade = [job for job in rig.room.ledger.jobs.values() if job.kind == "upgrade"]
    assert [job.state for job in upgrade] == [JobState.DONE]


@pytest.mark.parametrize("state", ["running", "stopped"])
async def test_an_instance_that_is_declared_again_during_its_removal_stays(rig: Rig, state: str) -> None:
    await wish(rig, 1, DesiredApp("", "running", {}))
    rig.engine.fail_next("stop", Unreachable("engine.unreachable", "the engine does not answer"), times=1)
    await rig.room.wishes.take_index(DesiredIndex(2, {"pump": None}, {}))
    await wish(rig, 3, DesiredApp("", state, {}), "2")
    assert rig.room.wishes.refused == {}
    assert rig.serving() == (["pump:2"] if state == "running" else [])
    assert "pump" in rig.room.ledger.desired


async def test_rules_of_a_revision_that_are_refused_are_told_and_change_nothing(rig: Rig) -> None:
    await rig.room.wishes.take_index(DesiredIndex(1, {}, {"night": "rules: {a: 1}"}))
    assert "night:1:" in rig.room.wishes.refused["rules night"]
    assert rig.room.ledger.rules == {}
