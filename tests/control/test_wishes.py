"""The cloud's declared state: every part of a revision happens, and what is refused is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from agent.control.north.documents import ACTED
from agent.control.north.wishes import Wishes
from agent.domain.command import Command, JobState, Reply
from agent.domain.journal import Change
from agent.errors import Busy, Unreachable
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


# ---- documents and indexes in any order ----------------------------------------------------------------------------

ELSEWHERE = "e" * 64
"""A release's hash as another gateway reported it, where the same document's tags meant other images."""


def known_as(release: str) -> DesiredApp:
    return DesiredApp(release, "running", {})


async def declare(rig: Rig, revision: int, **apps: DesiredApp | None) -> None:
    await rig.room.wishes.take_index(DesiredIndex(revision, apps, {}))
    await settle(rig)


async def publish(rig: Rig, version: str, instance: str = "pump") -> None:
    await rig.room.wishes.take_release(DesiredRelease(instance, manifest(version)))


def kinds(rig: Rig, instance: str = "pump") -> list[str]:
    return [job.kind for job in rig.room.ledger.jobs.values() if job.instance == instance]


def releases(rig: Rig, instance: str = "pump") -> str:
    current = rig.room.ledger.desired[instance].current
    return current.release if current else ""


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_document_that_lies_there_ahead_of_its_index_is_used_when_that_comes(
    rig: Rig, *, restarted: bool
) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(""))
    await publish(rig, "2")
    await declare(rig, 2, pump=known_as(releases(rig)), beside=None)
    if restarted:
        await rig.restart()
        await publish(rig, "2")
    await declare(rig, 3, pump=known_as(ELSEWHERE))
    assert (rig.room.wishes.waiting, rig.room.wishes.revision, rig.serving()) == ({}, 3, ["pump:2"])


class Held:
    """An inbox that holds up the commands about some instances, or says: not now."""

    def __init__(self, rig: Rig, instance: str) -> None:
        self._rig = rig
        self._instance = instance
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.later = False
        self.said: list[tuple[str, str]] = []

    async def submit(self, command: Command) -> Reply:
        if command.params["instance"] == self._instance:
            self.reached.set()
            if self.later and not self.go_on.is_set():
                return Reply(command.id, 503, "not now")
            await self.go_on.wait()
        self.said.append((command.id, str(command.params.get("manifest", ""))))
        return await self._rig.room.inbox.submit(command)


@pytest.mark.parametrize("later", [False, True])
async def test_a_revision_is_done_with_the_documents_it_was_begun_with_whatever_comes_meanwhile(
    rig: Rig, *, later: bool
) -> None:
    inbox = Held(rig, "a")
    inbox.later = later
    wishes = Wishes(rig.room.ledger, inbox, retry_s=0.05)
    for name in ("a", "pump"):
        await wishes.take_release(DesiredRelease(name, manifest("1")))
    first = DesiredIndex(1, {"a": known_as(ELSEWHERE), "pump": known_as(ELSEWHERE)}, {})
    working = asyncio.create_task(wishes.take_index(first))
    await asyncio.wait_for(inbox.reached.wait(), 10)
    newer = asyncio.create_task(wishes.take_release(DesiredRelease("pump", manifest("2"))))
    await asyncio.sleep(0)
    inbox.go_on.set()
    await asyncio.gather(working, newer, return_exceptions=True)
    await rig.until(lambda: wishes.revision == 1, "the first revision")
    await settle(rig)
    assert rig.serving() == ["pump:1"]
    await wishes.take_index(DesiredIndex(2, {"a": known_as(ELSEWHERE), "pump": known_as("f" * 64)}, {}))
    await settle(rig)
    assert (wishes.revision, wishes.waiting, wishes.refused, rig.serving()) == (2, {}, {}, ["pump:2"])
    assert [text for _, text in inbox.said] == [manifest("1"), manifest("1"), manifest("2")]


async def test_a_revision_that_is_tried_again_does_not_replace_what_it_has_begun(rig: Rig) -> None:
    inbox = Held(rig, "z")
    inbox.later = True
    wishes = Wishes(rig.room.ledger, inbox, retry_s=0.05)
    for name in ("pump", "z"):
        await wishes.take_release(DesiredRelease(name, manifest("1")))
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "it does not answer"), times=2)
    with pytest.raises(Busy):
        await wishes.take_index(DesiredIndex(1, {"pump": known_as(ELSEWHERE), "z": known_as(ELSEWHERE)}, {}))
    await rig.until(lambda: len(inbox.said) > 3, "some tries")
    inbox.go_on.set()
    await rig.until(lambda: wishes.revision == 1, "the revision")
    await settle(rig)
    assert {id_ for id_, _ in inbox.said} == {"desired-1-pump-app.install", "desired-1-z-app.install"}
    assert kinds(rig) == ["install"]


async def test_a_revision_that_was_cut_off_half_way_does_not_take_a_later_document_for_the_one_it_used(
    rig: Rig,
) -> None:
    inbox = Held(rig, "z")
    wishes = Wishes(rig.room.ledger, inbox)
    for name in ("pump", "z"):
        await wishes.take_release(DesiredRelease(name, manifest("1")))
    index = DesiredIndex(1, {"pump": known_as(ELSEWHERE), "z": known_as(ELSEWHERE)}, {})
    working = asyncio.create_task(wishes.take_index(index))
    await asyncio.wait_for(inbox.reached.wait(), 10)
    working.cancel()
    await settle(rig)
    await rig.restart()
    await publish(rig, "2")
    await publish(rig, "1", "z")
    await declare(rig, 1, pump=known_as(ELSEWHERE), z=known_as(ELSEWHERE))
    assert (rig.room.wishes.revision, rig.serving(), kinds(rig)) == (1, ["pump:1"], ["install"])
    await declare(rig, 2, pump=known_as("f" * 64))
    assert (rig.room.wishes.revision, rig.serving()) == (2, ["pump:2"])


async def test_what_a_revision_waits_for_may_come_by_another_way(rig: Rig) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(""))
    first = releases(rig)
    assert (await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))).kind == "upgrade"
    second = releases(rig)
    await rig.job(await rig.send("app.remove", instance="pump"))
    await rig.until(lambda: "pump" not in rig.room.ledger.desired, "its end")
    drop = Change(releases_gone=(first, second))
    await rig.room.ledger.decide(lambda: drop)
    await declare(rig, 2, pump=known_as(second))
    assert rig.room.wishes.waiting.keys() == {"pump"}
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("2")))
    await rig.until(lambda: rig.room.wishes.revision == 2, "the revision")
    assert rig.room.wishes.waiting == {}


async def test_what_came_of_a_document_here_is_the_release_that_another_gateway_reported_of_it(rig: Rig) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(ELSEWHERE))
    for revision in (2, 3):
        await rig.restart()
        await publish(rig, "1")
        await declare(rig, revision, pump=known_as(ELSEWHERE), nobody=None)
    assert (rig.room.wishes.revision, rig.room.wishes.waiting, kinds(rig)) == (3, {}, ["install"])


async def test_after_a_release_that_was_kept_here_the_document_that_still_lies_there_is_known(rig: Rig) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(""))
    first = releases(rig)
    await publish(rig, "2")
    await declare(rig, 2, pump=known_as(ELSEWHERE))
    second = releases(rig)
    await declare(rig, 3, pump=known_as(first))
    assert rig.serving() == ["pump:1"]
    await rig.room.ledger.decide(lambda: Change(releases_gone=(second,)))
    await declare(rig, 4, pump=known_as("f" * 64))
    assert "revision 4 waits" in rig.room.wishes.waiting["pump"], "an old document for a new release"
    await declare(rig, 5, pump=known_as(ELSEWHERE))
    assert (rig.room.wishes.revision, rig.serving()) == (5, ["pump:2"])


async def test_back_to_the_release_before_by_its_document_after_one_that_failed(rig: Rig) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(ELSEWHERE))
    await rig.room.wishes.take_release(DesiredRelease("pump", "name: ["))
    await declare(rig, 2, pump=known_as("f" * 64))
    assert list(rig.room.wishes.refused) == ["pump"]
    await publish(rig, "1")
    await declare(rig, 3, pump=known_as(ELSEWHERE))
    assert (rig.room.wishes.revision, rig.room.wishes.refused, rig.serving()) == (3, {}, ["pump:1"])


async def test_a_document_whose_tags_have_moved_waits_under_a_new_hash_and_the_words_say_what_to_do(rig: Rig) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(ELSEWHERE))
    await publish(rig, "1")
    await declare(rig, 2, pump=known_as("f" * 64))
    assert 'name release ""' in rig.room.wishes.waiting["pump"]
    await declare(rig, 3, pump=known_as(""))
    assert (rig.room.wishes.revision, kinds(rig)) == (3, ["install", "upgrade"])


async def test_what_is_remembered_of_an_instance_goes_with_it_and_its_document(rig: Rig) -> None:
    await publish(rig, "1")
    await declare(rig, 1, pump=known_as(ELSEWHERE))
    key = f"{ACTED}pump"
    assert rig.room.ledger.meta[key].startswith(ELSEWHERE)
    await declare(rig, 2, pump=None)
    await rig.until(lambda: "pump" not in rig.room.ledger.desired, "its end")
    assert key in rig.room.ledger.meta, "its document lies there yet, and could be taken for a new one"
    await rig.room.wishes.take_release(DesiredRelease("pump", ""))
    await rig.until(lambda: key not in rig.room.ledger.meta, "the end of its mark")
    await rig.restart()
    assert key not in rig.room.ledger.meta


async def test_whoever_listens_is_told_when_a_revision_begins_to_wait_and_when_it_is_done(rig: Rig) -> None:
    told: list[tuple[list[str], int]] = []
    wishes = rig.room.wishes
    wishes.on_news.append(lambda: told.append((list(wishes.waiting), wishes.revision)))
    await declare(rig, 1, pump=known_as(ELSEWHERE))
    await rig.send("app.status")
    assert told == [(["pump"], 0)], "once, however often it is looked at"
    await publish(rig, "1")
    assert told == [(["pump"], 0), ([], 0), ([], 1)]
