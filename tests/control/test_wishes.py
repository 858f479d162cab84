"""The cloud's declared state: every part of a revision happens, and what is refused is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
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


def named(text: str, values: dict[str, object] | None = None) -> DesiredApp:
    """A row that names the release by the seal of its document."""
    return DesiredApp(sha256(text.encode()).hexdigest(), "running", values or {})


async def settle(rig: Rig) -> None:
    await rig.until(lambda: all(job.state.final for job in rig.room.ledger.jobs.values()), "the end of all jobs")


@pytest.mark.parametrize("old", ["good", "refused"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_revision_waits_for_its_document_beside_the_one_of_the_revision_before(
    rig: Rig, old: str, restarted: bool
) -> None:
    first, second = manifest("1") if old == "good" else "name: [", manifest("2")
    await rig.room.wishes.take_release(DesiredRelease("pump", first))
    await rig.room.wishes.take_index(DesiredIndex(1, {"pump": named(first)}, {}))
    await settle(rig)
    if restarted:
        await rig.restart()
        await rig.room.wishes.take_release(DesiredRelease("pump", first))
    index = DesiredIndex(2, {"pump": named(second)}, {})
    await rig.room.wishes.take_index(index)
    assert (rig.room.wishes.revision, "revision 2 waits" in rig.room.wishes.waiting["pump"]) == (1, True)
    assert rig.serving() == (["pump:1"] if old == "good" else [])
    await rig.room.wishes.take_release(DesiredRelease("pump", first))
    assert rig.room.wishes.revision == 1, "the old one once more, as after a lost link, is not the new one"
    await rig.room.wishes.take_release(DesiredRelease("pump", second))
    await settle(rig)
    assert (rig.room.wishes.revision, rig.room.wishes.waiting, rig.serving()) == (2, {}, ["pump:2"])


async def test_who_names_its_release_by_the_seal_of_the_document_deploys_it_once(rig: Rig) -> None:
    text = manifest("1")
    await rig.room.wishes.take_release(DesiredRelease("pump", text))
    for revision in (1, 2):
        await rig.room.wishes.take_index(DesiredIndex(revision, {"pump": named(text)}, {}))
        await settle(rig)
    assert [job.kind for job in rig.room.ledger.jobs.values()] == ["install"]


async def test_a_release_that_the_gateway_has_needs_no_document(rig: Rig) -> None:
    await wish(rig, 1, DesiredApp("", "running", {}))
    before = rig.room.ledger.desired["pump"].current
    assert before is not None
    await wish(rig, 2, DesiredApp("", "running", {}), "2")
    await rig.room.wishes.take_index(DesiredIndex(3, {"pump": DesiredApp(before.release, "running", {})}, {}))
    await settle(rig)
    assert rig.serving() == ["pump:1"]


async def test_a_document_that_runs_as_another_release_is_not_the_one_that_is_named(rig: Rig) -> None:
    await wish(rig, 1, DesiredApp("", "running", {}))
    await rig.room.wishes.take_index(DesiredIndex(2, {"pump": DesiredApp("a" * 64, "running", {})}, {}))
    assert rig.room.wishes.waiting.keys() == {"pump"}
    await rig.room.wishes.take_release(DesiredRelease("pump", manifest("2")))
    await settle(rig)
    assert (rig.room.wishes.revision, rig.serving()) == (2, ["pump:2"])
