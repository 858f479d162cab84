"""Cloud, box and files meet in one place: who owns what, what acts once, and what stands until the next revision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.control.north.wishes import Wishes
from agent.domain.app import Wanted
from agent.domain.command import Command, JobState, Origin, Reply
from agent.domain.container import Health
from agent.errors import Busy
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex, DesiredRelease
from tests.control.rig import REGISTRY, Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def declare(rig: Rig, revision: int, apps: Mapping[str, DesiredApp | None]) -> None:
    """An index, and the end of all that follows."""
    await rig.room.wishes.take_index(DesiredIndex(revision, apps, {}))
    await quiet(rig)


async def quiet(rig: Rig) -> None:
    await rig.until(lambda: all(job.state.final for job in rig.room.ledger.jobs.values()), "the end of all jobs")


async def publish(rig: Rig, version: str = "1", instance: str = "pump") -> None:
    """The manifest's document."""
    await rig.room.wishes.take_release(DesiredRelease(instance, manifest(version)))


def app(release: str = "", state: str = "running", **values: Any) -> DesiredApp:
    return DesiredApp(release, state, values)


def kinds(rig: Rig) -> list[str]:
    return [job.kind for job in rig.room.ledger.jobs.values()]


# ---- stopping and starting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", list(Origin))
async def test_a_stop_by_anyone_is_respected_and_reported_as_a_hold_over_restarts_and_reboots(
    rig: Rig, by: Origin
) -> None:
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    await rig.job(await rig.send("app.stop", by, instance="pump"))
    await rig.restart()
    rig.engine.reboot()
    await declare(rig, 1, {"pump": app()})
    await rig.until(lambda: rig.room.reconciler.listed and rig.serving() == [], "its standing still")
    summary = rig.room.views.summary("pump")
    assert (summary["phase"], summary["message"]) == ("held", "stopped by test")


async def test_commands_in_between_stand_until_the_next_revision(rig: Rig) -> None:
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    await rig.job(await rig.send("app.stop", Origin.LOCAL, instance="pump"))
    for _ in range(2):
        await declare(rig, 1, {"pump": app()})
    assert rig.serving() == []
    await publish(rig)
    assert rig.serving() == []
    await declare(rig, 2, {"pump": app()})
    assert rig.serving() == ["pump:1"]


# ---- what acts, and how often --------------------------------------------------------------------------------------


async def test_a_revision_acts_once_however_often_and_in_whatever_order_its_documents_come(rig: Rig) -> None:
    await rig.room.wishes.take_index(DesiredIndex(3, {"pump": app()}, {}))
    assert rig.room.ledger.jobs == {}
    await publish(rig)
    await quiet(rig)
    for _ in range(3):
        await declare(rig, 3, {"pump": app()})
        await publish(rig)
    await declare(rig, 2, {"pump": None})
    assert (kinds(rig), rig.serving(), rig.room.wishes.revision) == (["install"], ["pump:1"], 3)
    await rig.restart()
    await publish(rig)
    await declare(rig, 3, {"pump": app()})
    await declare(rig, 1, {"pump": None})
    assert (kinds(rig), rig.room.wishes.revision) == (["install"], 3)


async def test_of_two_indexes_that_wait_for_documents_the_newer_one_counts(rig: Rig) -> None:
    await rig.room.wishes.take_index(DesiredIndex(2, {"pump": app(state="stopped")}, {}))
    await rig.room.wishes.take_index(DesiredIndex(1, {"pump": app()}, {}))
    await publish(rig)
    await quiet(rig)
    assert (rig.room.wishes.revision, rig.room.ledger.get("pump").wanted) == (2, Wanted.STOPPED)


async def test_the_same_release_again_changes_nothing_and_new_values_only_what_uses_them(rig: Rig) -> None:
    await publish(rig)
    await declare(rig, 1, {"pump": app(LIMIT=5)})
    release = rig.room.views.summary("pump")["release"]
    await declare(rig, 2, {"pump": app(release, LIMIT=5)})
    assert kinds(rig) == ["install"]
    await declare(rig, 3, {"pump": app(release, LIMIT=7)})
    await declare(rig, 4, {"pump": app(release)})
    assert kinds(rig) == ["install", "configure", "configure"]
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"] == {"value": 6.5, "source": "release"}
    await declare(rig, 5, {"pump": app(release)})
    assert kinds(rig) == ["install", "configure", "configure"]


async def test_an_index_that_overtakes_its_document_does_not_deploy_the_document_before(rig: Rig) -> None:
    pins = {v: rig.images.publish(f"{REGISTRY}/pump:{v}") for v in "12"}
    texts = {v: manifest(v).replace(f"{REGISTRY}/pump:{v}", pin) for v, pin in pins.items()}
    await rig.room.wishes.take_release(DesiredRelease("pump", texts["1"]))
    await declare(rig, 1, {"pump": app()})
    await rig.restart()
    await rig.room.wishes.take_release(DesiredRelease("pump", texts["1"]))
    await declare(rig, 2, {"pump": app("0" * 64)})
    assert kinds(rig) == ["install"]
    await rig.room.wishes.take_release(DesiredRelease("pump", texts["2"]))
    await quiet(rig)
    assert rig.serving() == ["pump:2"]


async def test_a_release_that_the_gateway_has_needs_no_document(rig: Rig) -> None:
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    first = rig.room.views.summary("pump")["release"]
    await publish(rig, "2")
    await declare(rig, 2, {"pump": app()})
    await rig.restart()
    await declare(rig, 3, {"pump": app(first)})
    assert rig.serving() == ["pump:1"]


async def test_a_known_bad_release_is_told_and_not_tried_again(rig: Rig) -> None:
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    bad = manifest("2", health="within: 5s, stable_for: 4s")
    await rig.room.wishes.take_release(DesiredRelease("pump", bad))
    await rig.room.wishes.take_index(DesiredIndex(2, {"pump": app()}, {}))
    await rig.until(lambda: rig.serving() == ["pump:2"], "its trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    await quiet(rig)
    await declare(rig, 2, {"pump": app()})
    await declare(rig, 3, {"pump": app()})
    ends = [(job.kind, job.state) for job in rig.room.ledger.jobs.values()]
    assert ends == [
        ("install", JobState.DONE),
        ("upgrade", JobState.ROLLED_BACK),
        ("upgrade", JobState.FAILED),
    ]
    assert "failed before" in list(rig.room.ledger.jobs.values())[-1].message
    assert rig.serving() == ["pump:1"]


async def test_a_revision_that_was_cut_off_half_way_is_completed_by_the_next_agent(rig: Rig) -> None:
    """The kill comes after the first command of the revision: the second must not be taken for the first."""
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    await rig.job(await rig.send("app.stop", Origin.LOCAL, instance="pump"))
    start = Command("desired-2-pump-app.start", "app.start", {"instance": "pump"}, Origin.CLOUD, who="desired")
    assert (await rig.room.inbox.submit(start)).ok
    await quiet(rig)
    await rig.restart()
    await publish(rig, "2")
    await declare(rig, 2, {"pump": app()})
    assert rig.serving() == ["pump:2"]


class FullOnce:
    """An inbox whose disk has no room for the first command."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._full = True

    async def submit(self, command: Command) -> Reply:
        if self._full:
            self._full = False
            return Reply(command.id, 507, "no space left")
        return await self._rig.room.inbox.submit(command)


async def test_a_revision_that_the_disk_has_no_room_for_stays_open_and_is_tried_again(rig: Rig) -> None:
    tried = Wishes(rig.room.ledger, FullOnce(rig), retry_s=0.05)
    await tried.take_release(DesiredRelease("pump", manifest()))
    with pytest.raises(Busy, match="revision 1 is not done: pump: no space left"):
        await tried.take_index(DesiredIndex(1, {"pump": app()}, {}))
    assert tried.revision == 0
    await rig.until(lambda: tried.revision == 1, "the second try")
    await quiet(rig)
    assert rig.serving() == ["pump:1"]


async def test_a_bundle_by_reference_from_a_place_off_the_allow_list_is_told_as_refused(rig: Rig) -> None:
    await rig.room.wishes.take_bundle(DesiredBundle("pump", "https://example.org/a.tar", "0" * 64))
    await rig.room.wishes.take_index(DesiredIndex(1, {"pump": app()}, {}))
    assert "its registry is off the allow-list" in rig.room.wishes.refused["pump"]


# ---- owners --------------------------------------------------------------------------------------------------------


async def test_absent_is_not_the_clouds_business_and_null_removes_only_what_is_its_own(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", Origin.LOCAL, instance="mine", manifest=manifest()))
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    await declare(rig, 2, {})
    assert sorted(rig.room.ledger.desired) == ["mine", "pump"]
    await declare(rig, 3, {"pump": None, "mine": None, "nobody": None})
    assert sorted(rig.room.ledger.desired) == ["mine"]
    assert list(rig.room.wishes.refused) == ["mine"]
    assert "owned by local, not by cloud" in rig.room.wishes.refused["mine"]


@pytest.mark.parametrize("owner", list(Origin))
@pytest.mark.parametrize("sender", list(Origin))
@pytest.mark.parametrize("type_", ["app.upgrade", "app.remove"])
async def test_across_owners_it_is_409_with_the_owners_name_unless_taken_over(
    rig: Rig, owner: Origin, sender: Origin, type_: str
) -> None:
    await rig.job(await rig.send("app.install", owner, instance="pump", manifest=manifest()))
    more: dict[str, Any] = {"manifest": manifest("2")} if type_ == "app.upgrade" else {}
    reply = await rig.send(type_, sender, instance="pump", **more)
    if owner is sender:
        assert reply.code == 202
        return
    assert (reply.code, reply.data["owner"]) == (409, owner.value)
    assert ("a file takes nothing over" in str(reply.data)) == (sender is Origin.FILE)
    assert (await rig.send("app.install", sender, instance="pump", manifest=manifest("2"))).code == 409
    done = await rig.job(await rig.send(type_, sender, instance="pump", take_over=True, **more))
    assert done.state is JobState.DONE
    if type_ == "app.upgrade":
        assert rig.room.ledger.get("pump").owner is sender


async def test_what_the_box_took_over_is_not_undone_by_the_next_revision(rig: Rig) -> None:
    await publish(rig)
    await declare(rig, 1, {"pump": app()})
    text = manifest("2")
    await rig.job(await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=text, take_over=True))
    await declare(rig, 2, {"pump": app()})
    assert (rig.serving(), list(rig.room.wishes.refused)) == (["pump:2"], ["pump"])
