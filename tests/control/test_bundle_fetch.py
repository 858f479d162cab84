"""A bundle by URL is a deployment from its command on: superseded, removed, held up and ended in time as any other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.domain.command import JobState, Origin
from agent.domain.schedule import UpdateTimes, parse_window
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex
from tests.control.packer import Packer
from tests.control.rig import CARE, REGISTRY, SLOW, Rig, manifest, running
from tests.fakes.hand_clock import ShiftedClock

NOON_MS = 1_795_492_800_000
"""Tue 2026-11-24 12:00 in Shanghai."""
NIGHT = UpdateTimes((parse_window("02:00-04:00"),), ZoneInfo("Asia/Shanghai"))
HASH = "0" * 64

pytestmark = pytest.mark.may_block  # the tests put files where the fake download finds them


def url_of(version: str) -> str:
    return f"https://{REGISTRY}/bundles/pump-{version}.bundle"


async def offer(rig: Rig, version: str, text: str = "") -> None:
    """The world outside has this version's bundle; its download ends when the rig's event for it is set."""
    world = rig.root / "world"
    world.mkdir(exist_ok=True)
    packed = await Packer(rig, rig.root / "stick").pack(version, text=text)
    rig.held[packed.name] = asyncio.Event()
    packed.rename(world / packed.name)


async def fetch(rig: Rig, version: str, origin: Origin = Origin.LOCAL, **more: Any) -> str:
    """The job of a fetch that is asking for its bundle."""
    before = len(rig.downloads)
    reply = await rig.send("bundle.fetch", origin, instance="pump", url=url_of(version), sha256=HASH, **more)
    assert reply.code == 202, reply
    await rig.until(lambda: len(rig.downloads) > before, "the download to begin")
    return reply.job


async def install(rig: Rig, origin: Origin = Origin.LOCAL) -> None:
    job = await rig.job(await rig.send("app.install", origin, instance="pump", manifest=manifest("1")))
    assert job.state is JobState.DONE, job


async def arrive(rig: Rig, *versions: str) -> None:
    """These downloads end, and all that follows from them."""
    for version in versions:
        rig.held[f"pump-{version}.bundle"].set()
        await asyncio.sleep(0.3)
    await rig.until(lambda: all(job.state.final for job in rig.room.ledger.jobs.values()), "the end of all jobs")


def serving(rig: Rig) -> list[str]:
    """The version of each container that serves; "?" where it is not of the wanted one."""
    desired = rig.room.ledger.desired.get("pump")
    served = [each.spec for each in rig.engine.find("pump", "main") if each.serving]
    if desired is None or desired.current is None:
        return ["?" for _ in served]
    version = rig.room.catalog.release(desired.current.release).version
    wanted = {each.spec_hash for each in rig.room.catalog.spec(desired).containers}
    return [version if spec in wanted else "?" for spec in served]


async def test_an_upgrade_that_came_after_the_fetch_stays_when_the_fetch_arrives(rig: Rig) -> None:
    await install(rig)
    await offer(rig, "2")
    fetching = await fetch(rig, "2")
    upgrade = await rig.job(await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("3")))
    assert upgrade.state is JobState.DONE, upgrade
    await arrive(rig, "2")
    assert serving(rig) == ["3"]
    superseded = rig.job_now(fetching)
    assert (superseded.state, superseded.message) == (JobState.SUPERSEDED, f"replaced by job {upgrade.id}")


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "new"])
@pytest.mark.parametrize("by", ["app.remove", "desired"])
async def test_what_is_removed_after_the_fetch_stays_away_when_the_fetch_arrives(
    rig: Rig, by: str, *, installed: bool
) -> None:
    if installed:
        await install(rig, Origin.CLOUD)
    await offer(rig, "2")
    fetching = await fetch(rig, "2", Origin.CLOUD)
    if by == "app.remove":
        assert (await rig.send("app.remove", instance="pump")).ok
    else:
        await rig.room.wishes.take_index(DesiredIndex(1, {"pump": None}, {}))
    await rig.until(lambda: "pump" not in rig.room.ledger.desired, "its removal")
    await arrive(rig, "2")
    assert (rig.room.ledger.desired, serving(rig)) == ({}, [])
    assert rig.job_now(fetching).state is JobState.SUPERSEDED


async def test_of_two_fetches_the_later_command_wins_and_not_the_slower_download(rig: Rig) -> None:
    for version in "12":
        await offer(rig, version)
    slow, quick = await fetch(rig, "1"), await fetch(rig, "2")
    await arrive(rig, "2", "1")
    assert serving(rig) == ["2"]
    assert [rig.job_now(id_).state for id_ in (slow, quick)] == [JobState.SUPERSEDED, JobState.DONE]


async def test_a_fetch_outlasts_stop_and_start_and_a_kill_of_the_agent(rig: Rig) -> None:
    await install(rig)
    await offer(rig, "2")
    fetching = await fetch(rig, "2")
    for order in ("app.stop", "app.start"):
        assert (await rig.job(await rig.send(order, Origin.LOCAL, instance="pump"))).state is JobState.DONE
    await rig.restart()
    await arrive(rig, "2")
    assert (rig.job_now(fetching).state, serving(rig)) == (JobState.DONE, ["2"])


async def test_the_other_sides_app_is_refused_at_once_and_not_after_the_download(rig: Rig) -> None:
    await install(rig, Origin.CLOUD)
    await offer(rig, "2")
    reply = await rig.send("bundle.fetch", Origin.LOCAL, instance="pump", url=url_of("2"), sha256=HASH)
    assert (reply.code, reply.data["code"], rig.downloads) == (409, "app.owner", [])


async def test_what_admission_refuses_in_a_fetched_bundle_ends_the_job_and_leaves_no_instance(rig: Rig) -> None:
    await offer(rig, "1", manifest("1", extra="privileged: true"))
    fetching = await fetch(rig, "1")
    await arrive(rig, "1")
    refused = rig.job_now(fetching)
    assert (refused.state, refused.error_status, rig.room.ledger.desired) == (JobState.FAILED, 403, {})
    assert "privileged" in refused.message


async def test_a_bundle_that_shall_stand_still_is_installed_and_not_started(rig: Rig) -> None:
    await offer(rig, "1")
    await rig.room.wishes.take_bundle(DesiredBundle("pump", url_of("1"), HASH))
    await rig.room.wishes.take_index(DesiredIndex(1, {"pump": DesiredApp("", "stopped", {})}, {}))
    await arrive(rig, "1")
    assert rig.room.views.summary("pump")["version"] == "1"
    assert (serving(rig), rig.room.wishes.refused) == ([], {})


async def test_a_fetch_for_the_cloud_downloads_inside_the_update_window_only(tmp_path: Path) -> None:
    clock = ShiftedClock(NOON_MS)
    async with running(tmp_path, replace(CARE, times=NIGHT), clock) as rig:

        async def passes(hours: float) -> None:
            clock.jump(hours * 3600)
            await asyncio.sleep(0)
            rig.room.runner.look()

        await offer(rig, "1")
        reply = await rig.send("bundle.fetch", instance="pump", url=url_of("1"), sha256=HASH)
        assert reply.msg.endswith("outside of the update windows")
        await asyncio.sleep(0.2)
        assert rig.downloads == []
        await passes(15)
        await rig.until(lambda: len(rig.downloads) == 1, "the download in the night")
        await passes(2)
        await rig.until(lambda: rig.job_now(reply.job).state is JobState.WAITING, "the pause when the window closes")
        rig.held["pump-1.bundle"].set()
        await asyncio.sleep(0.2)
        assert (len(rig.downloads), serving(rig)) == (1, [])
        await passes(22)
        assert (await rig.job(reply)).state is JobState.DONE
        assert (len(rig.downloads), serving(rig)) == (2, ["1"])


async def test_the_deadline_of_a_fetch_counts_to_the_end_of_the_trial(rig: Rig) -> None:
    await install(rig)
    await offer(rig, "2", manifest("2", health=SLOW))
    fetching = await fetch(rig, "2", deadline_s=2.5)
    rig.held["pump-2.bundle"].set()
    await rig.until(lambda: serving(rig) == ["2"], "the new version")
    ended = await rig.ended(fetching)
    assert (ended.state, "deadline of 2.5 s" in ended.message) == (JobState.ROLLED_BACK, True)
    await rig.until(lambda: serving(rig) == ["1"], "the version before")


async def test_a_bundle_that_runs_is_not_fetched_again_by_a_revision_that_names_it(rig: Rig) -> None:
    hashes = {"1": HASH, "2": "2" * 64}

    async def declare(revision: int, version: str) -> int:
        """How many downloads have begun once all is over."""
        wishes = rig.room.wishes
        await wishes.take_bundle(DesiredBundle("pump", url_of(version), hashes[version]))
        apps = {"pump": DesiredApp(hashes[version], "running", {}), f"nobody-{revision}": None}
        await wishes.take_index(DesiredIndex(revision, apps, {}))
        await arrive(rig)
        assert (wishes.revision, wishes.refused, serving(rig)) == (revision, {}, [version])
        return len(rig.downloads)

    for version in hashes:
        await offer(rig, version)
        rig.held[f"pump-{version}.bundle"].set()
    assert [await declare(1, "1"), await declare(2, "1")] == [1, 1]
    await rig.restart()
    assert [await declare(3, "1"), await declare(4, "2"), await declare(5, "2")] == [1, 2, 2]
    assert await declare(6, "1") == 3
