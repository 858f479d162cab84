"""The stock of images: what is needed stays, a full disk is cleaned before anything is given up, a dead registry is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.control.jobs.maker import MOST_WAITING
from agent.domain.command import JobState, Origin
from agent.domain.policy import Policy
from agent.errors import NoSpace, Refused, Unreachable
from tests.control.rig import CARE, PACE, REGISTRY, Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def deploy(rig: Rig, version: str, kind: str = "app.upgrade") -> Any:
    return await rig.job(await rig.send(kind, instance="pump", manifest=manifest(version)))


def here(rig: Rig) -> set[str]:
    return {pin.partition("@")[2] for image in rig.images.local() for pin in image.digests}


def digest(rig: Rig, version: str) -> str:
    return rig.images.publish(f"{REGISTRY}/pump:{version}").partition("@")[2]


async def test_a_registry_that_is_down_is_waited_for(rig: Rig) -> None:
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "down"))
    assert (await deploy(rig, "1", "app.install")).state is JobState.DONE
    assert rig.serving() == ["pump:1"]


async def test_before_a_fetch_gives_up_for_space_what_nobody_needs_goes_and_nothing_else(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/other:1"))
    rig.images.fail_next("pull", NoSpace("image.no_space", "full"))
    assert (await deploy(rig, "2")).state is JobState.DONE
    assert here(rig) == {digest(rig, "1"), digest(rig, "2")}


def lacks(rig: Rig, mib: int) -> None:
    """The next fetch has so little room that so much has to go first."""
    error = NoSpace("image.no_space", "full", needed_bytes=mib * 1024 * 1024, free_bytes=0, reserve_bytes=0)
    rig.images.fail_next("pull", error)


async def test_where_all_that_nobody_needs_would_not_be_enough_nothing_goes(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    for name in ("other:1", "other:2"):
        await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/{name}"))
    before = here(rig)
    lacks(rig, 100)
    assert (await deploy(rig, "2")).state is JobState.DONE
    assert here(rig) == {*before, digest(rig, "2")}


async def test_where_a_disk_is_full_that_holds_no_images_of_the_engine_none_goes(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/other:1"))
    before = here(rig)
    rig.images.fail_next("pull", NoSpace("image.no_space", "full", where="the state folder"))
    assert (await deploy(rig, "2")).state is JobState.DONE
    assert here(rig) == {*before, digest(rig, "2")}
    assert ("prune", "") not in rig.images.log


async def test_what_was_brought_last_goes_only_where_the_rest_is_not_enough(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    for name in ("other:1", "other:2"):
        await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/{name}"))
    last = rig.images.publish(f"{REGISTRY}/other:2").partition("@")[2]
    lacks(rig, 1)
    assert (await deploy(rig, "2")).state is JobState.DONE
    assert here(rig) == {digest(rig, "1"), digest(rig, "2"), last}
    for name in ("other:1", "other:2"):
        await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/{name}"))
    lacks(rig, 3)
    assert (await deploy(rig, "3")).state is JobState.DONE
    assert here(rig) == {digest(rig, version) for version in "123"}


async def test_more_jobs_about_images_than_one_would_ever_wait_for_are_refused_until_one_is_over(rig: Rig) -> None:
    later = rig.clock.now_ms() + 3_600_000
    replies = [await rig.send("image.pull", image=f"{REGISTRY}/pump:1", at=later) for _ in range(MOST_WAITING + 1)]
    assert [reply.code for reply in replies] == [202] * MOST_WAITING + [429]
    assert "ecgw job list" in replies[-1].msg
    assert len(rig.room.ledger.jobs) == MOST_WAITING
    await rig.send("job.cancel", job=replies[0].job)
    assert (await rig.send("image.pull", image=f"{REGISTRY}/pump:1", at=later)).code == 202


async def test_an_image_that_the_disk_could_never_hold_ends_the_job_and_is_not_tried_again(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    before = len(rig.images.log)
    rig.images.fail_next("pull", Refused("image.too_large", "needs 9 MiB; the whole disk has 8 MiB"), times=9)
    job = await deploy(rig, "2")
    assert job.state is JobState.FAILED
    assert "the whole disk has 8 MiB" in job.message
    assert [what for what, _ in rig.images.log[before:] if what in ("pull", "prune")] == []
    assert rig.serving() == ["pump:1"]


async def test_a_job_that_comes_while_its_image_is_being_cleaned_up_brings_it_again(rig: Rig) -> None:
    await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/pump:1"))
    removing = rig.images.faults.pause("let go")
    pruning = asyncio.create_task(rig.send("image.prune"))
    await removing.reached.wait()
    pulls = rig.images.log.count(("pull", pinned := rig.images.publish(f"{REGISTRY}/pump:1")))
    install = await rig.send("app.install", instance="pump", manifest=manifest("1"))
    await rig.until(lambda: rig.images.log.count(("pull", pinned)) > pulls, "the job asking for its image anew")
    removing.open()
    assert (await pruning).data["freed_bytes"] > 0
    assert (await rig.ended(install.job)).state is JobState.DONE
    assert here(rig) == {digest(rig, "1")}


async def test_an_image_that_a_job_finds_during_a_clean_up_stays(rig: Rig) -> None:
    for name in ("other", "pump"):
        await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/{name}:1"))
    removing = rig.images.faults.pause("let go")
    pruning = asyncio.create_task(rig.send("image.prune"))
    await removing.reached.wait()
    install = await rig.send("app.install", instance="pump", manifest=manifest("1"))
    await rig.until(lambda: bool(rig.room.stock.needed()), "the job to hold its image")
    removing.open()
    await pruning
    assert (await rig.ended(install.job)).state is JobState.DONE
    assert here(rig) == {digest(rig, "1")}


async def test_above_the_high_mark_a_deployment_cleans_up_but_what_can_be_gone_back_to_stays(rig: Rig) -> None:
    rig.images.disk_is_full = True
    for version, kind in (("1", "app.install"), ("2", "app.upgrade"), ("3", "app.upgrade"), ("4", "app.upgrade")):
        assert (await deploy(rig, version, kind)).state is JobState.DONE
    await rig.until(lambda: digest(rig, "1") not in here(rig), "the oldest image gone")
    assert here(rig) == {digest(rig, version) for version in "234"}


async def test_above_the_high_mark_a_pull_cleans_up_but_what_it_brought_is_there_for_the_install_that_follows(
    rig: Rig,
) -> None:
    rig.images.disk_is_full = True
    await deploy(rig, "1", "app.install")
    for name in ("other:1", "other:2"):
        assert (await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/{name}"))).state is JobState.DONE
    first, second = (rig.images.publish(f"{REGISTRY}/other:{n}").partition("@")[2] for n in "12")
    await rig.until(lambda: first not in here(rig), "the image that nobody needs gone")
    assert here(rig) == {digest(rig, "1"), second}
    assert (await rig.send("image.prune")).data["freed_bytes"] > 0
    assert here(rig) == {digest(rig, "1")}


async def looks_at_the_disk(rig: Rig, free_mib: int) -> None:
    """The engine's disk of 20,000 MiB has so much left, and has been looked at a few times since."""
    looks: list[float] = []
    rig.meter.free = free_mib * 1024 * 1024
    rig.room.metering.on_disk.append(lambda disk: looks.append(disk.used_percent))
    await rig.until(lambda: len(looks) > 3, "looks at the disk")


async def test_a_disk_that_something_else_filled_is_cleaned_with_no_job_at_its_end(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    await deploy(rig, "2")
    for name in ("other:1", "other:2"):
        await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/{name}"))
    rig.images.disk_is_full = True
    rig.meter.free = 2_000 * 1024 * 1024
    last = rig.images.publish(f"{REGISTRY}/other:2").partition("@")[2]
    await rig.until(lambda: len(here(rig)) == 3, "the image that nobody needs gone")
    assert here(rig) == {digest(rig, "1"), digest(rig, "2"), last}


async def test_a_look_at_a_disk_that_is_not_full_touches_no_image_and_one_in_vain_is_not_repeated_at_once(
    rig: Rig,
) -> None:
    await deploy(rig, "1", "app.install")
    await rig.until(lambda: bool(rig.images.tidied), "the clean-up after the job")
    rig.images.tidied.clear()
    await looks_at_the_disk(rig, 9_000)
    assert rig.images.tidied == []
    await looks_at_the_disk(rig, 100)
    assert rig.images.tidied == [True]


async def test_what_an_app_that_goes_leaves_is_cleaned_up_at_the_next_look_at_a_full_disk(tmp_path: Path) -> None:
    async with running(tmp_path, replace(CARE, pace=replace(PACE, measure_s=1.0))) as rig:
        await deploy(rig, "1", "app.install")
        await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/other:1"))
        last = rig.images.publish(f"{REGISTRY}/other:1").partition("@")[2]
        await rig.until(lambda: len(rig.images.tidied) == 2, "the clean-ups after both jobs")
        rig.images.disk_is_full = True
        rig.meter.free = 0
        await rig.until(lambda: len(rig.images.tidied) == 3, "a look that finds nothing")
        await rig.job(await rig.send("app.remove", instance="pump"))
        await rig.until(lambda: here(rig) == {last}, "its image gone")
        assert rig.serving() == []


async def test_after_a_restart_a_full_disk_waits_for_what_open_jobs_have_brought(rig: Rig) -> None:
    name = f"{REGISTRY}/other:1"
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "down"), times=99)
    reply = await rig.send("image.pull", image=name)
    await rig.until(lambda: rig.job_now(reply.job).state is JobState.DOWNLOADING, "the fetch begun")
    asking = rig.images.faults.pause("pin")
    rig.meter.free = 0
    await rig.restart()
    rig.images.faults.clear()
    await looks_at_the_disk(rig, 0)
    assert rig.images.tidied == []
    asking.open()
    assert (await rig.ended(reply.job)).state is JobState.DONE
    await rig.until(lambda: bool(rig.images.tidied), "the clean-up")


async def test_left_overs_of_fetches_stay_as_long_as_a_job_could_go_on_with_them(rig: Rig) -> None:
    await deploy(rig, "1", "app.install")
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "down"), times=99)
    reply = await rig.send("image.pull", image=f"{REGISTRY}/other:1")
    await rig.until(lambda: rig.room.ledger.jobs[reply.job].state is JobState.DOWNLOADING, "the fetch begun")
    rig.images.tidied.clear()
    await rig.room.stock.tidy()
    await rig.send("job.cancel", job=reply.job)
    await rig.room.stock.tidy()
    assert rig.images.tidied[0] is False
    assert set(rig.images.tidied[1:]) == {True}


async def test_what_was_pulled_by_a_name_is_listed_and_removed_by_it(rig: Rig) -> None:
    name = f"{REGISTRY}/other:1"
    assert (await rig.job(await rig.send("image.pull", image=name))).state is JobState.DONE
    rig.images.publish(name, "moved")
    (row,) = (await rig.send("image.list")).data
    assert name in row["tags"]
    assert (await rig.send("image.remove", image=name)).code == 200
    assert not here(rig)


async def test_what_a_prune_frees_counts_what_fetches_left(rig: Rig) -> None:
    rig.images.left_bytes = 4096
    assert (await rig.send("image.prune")).data == {"freed_bytes": 4096}
    assert (await rig.send("image.prune")).data == {"freed_bytes": 0}


async def test_a_prune_takes_the_gateways_knowledge_of_what_is_gone_too(rig: Rig) -> None:
    await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/other:1"))
    rig.images.tidied.clear()
    reply = await rig.send("image.prune")
    assert reply.data["freed_bytes"] > 0
    assert not here(rig)
    assert rig.images.tidied == [True]


async def test_a_base_that_is_here_only_by_a_name_it_was_pulled_by_is_asked_for_anew(rig: Rig, tmp_path: Path) -> None:
    name = f"{REGISTRY}/base:1"
    rig.images.publish(name)
    assert (await rig.job(await rig.send("image.pull", image=name))).state is JobState.DONE
    moved = rig.images.publish(name, "moved")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text(f"FROM {name}\n")
    by_hand = {"folder": str(tmp_path / "app"), "tag": "local/other:1"}
    assert (await rig.job(await rig.send("image.build", Origin.LOCAL, **by_hand))).state is JobState.DONE
    assert moved.partition("@")[2] in here(rig)
    rig.policy = Policy(registries=("elsewhere:5000",))
    await rig.restart()
    job = await rig.job(await rig.send("image.build", Origin.LOCAL, **by_hand))
    assert (job.state, "off the allow-list" in job.message) == (JobState.FAILED, True)


async def test_a_name_that_is_a_tag_too_is_listed_once(rig: Rig) -> None:
    name = f"{REGISTRY}/other:1"
    rig.images.brings[rig.images.publish(name)] = {"tags": (name,)}
    assert (await rig.job(await rig.send("image.pull", image=name))).state is JobState.DONE
    (row,) = (await rig.send("image.list")).data
    assert row["tags"] == (name,)


async def test_a_save_to_a_full_stick_ends_with_the_error_and_a_later_one_is_made(rig: Rig) -> None:
    rig.images.fail_next("save", NoSpace("image.archive_not_written", "cannot write /stick/a.tar: full"))
    rig.images.add("mine:1")
    job = await rig.job(await rig.send("image.save", Origin.LOCAL, images=["mine:1"], path="/stick/a.tar"))
    assert (job.state, job.error_status) == (JobState.FAILED, 507)
    assert job.message.startswith("cannot write /stick/a.tar: full; free space there")
    again = await rig.job(await rig.send("image.save", Origin.LOCAL, images=["mine:1"], path="/stick/a.tar"))
    assert again.state is JobState.DONE
