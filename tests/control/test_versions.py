"""Several versions are kept, with their values and images; one goes back to any of them, and to no other."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.command import JobState
from agent.domain.container import Health
from agent.errors import Unreachable
from tests.control.rig import REGISTRY, SLOW, Rig, manifest


async def install(rig: Rig, *versions: str) -> None:
    """Install the first of `versions`, then upgrade through the others, each with its number as LIMIT."""
    for n, version in enumerate(versions):
        params: dict[str, Any] = {"instance": "pump", "manifest": manifest(version), "values": {"LIMIT": int(version)}}
        job = await rig.job(await rig.send("app.upgrade" if n else "app.install", **params))
        assert job.state is JobState.DONE, job


async def roll_back(rig: Rig, **params: Any) -> JobState:
    return (await rig.job(await rig.send("app.rollback", instance="pump", **params))).state


async def test_the_newest_versions_are_kept_up_to_the_bound_with_their_images(rig: Rig) -> None:
    await install(rig, "1", "2", "3", "4")
    assert rig.versions() == [("4", "current"), ("3", "kept"), ("2", "kept")]
    rows = (await rig.send("image.list")).data
    in_use = {row["digests"][0]: row["in_use"] for row in rows}
    assert [in_use[rig.images.publish(f"{REGISTRY}/pump:{v}")] for v in "1234"] == [False, True, True, True]


async def test_new_values_of_one_release_do_not_push_older_releases_out(rig: Rig) -> None:
    await install(rig, "1", "2")
    for limit in (5, 6, 7):
        await rig.job(await rig.send("app.configure", instance="pump", values={"LIMIT": limit}))
    assert rig.versions() == [("2", "current"), ("2", "kept"), ("1", "kept")]


async def test_going_back_to_a_kept_version_by_name_or_by_hash_restores_its_values(rig: Rig) -> None:
    await install(rig, "1", "2", "3")
    oldest = rig.room.views.detail("pump")["versions"][2]["release"]
    assert await roll_back(rig, to="1") is JobState.DONE
    assert rig.serving() == ["pump:1"]
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"]["value"] == 1
    assert rig.versions() == [("1", "current"), ("3", "kept"), ("2", "kept")]
    assert await roll_back(rig, to="3") is JobState.DONE
    assert await roll_back(rig, to=oldest[:10]) is JobState.DONE
    assert rig.serving() == ["pump:1"]


async def test_going_back_from_a_trial_keeps_the_older_versions(rig: Rig) -> None:
    await install(rig, "1", "2")
    await rig.send("app.upgrade", instance="pump", manifest=manifest("3", health=SLOW))
    await rig.until(lambda: rig.serving() == ["pump:3"], "the trial")
    assert await roll_back(rig) is JobState.DONE
    assert rig.versions() == [("2", "current"), ("1", "kept")]
    assert await roll_back(rig) is JobState.DONE
    assert rig.serving() == ["pump:1"]


async def test_a_failed_trial_keeps_all_the_older_versions_too(rig: Rig) -> None:
    await install(rig, "1", "2", "3")
    assert rig.room.catalog.premises.policy.keep_versions == 2
    reply = await rig.send("app.upgrade", instance="pump", manifest=manifest("4", health=SLOW))
    await rig.until(lambda: rig.serving() == ["pump:4"], "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    assert rig.versions() == [("3", "current"), ("2", "kept"), ("1", "kept")]


async def test_a_version_that_proved_itself_takes_the_place_of_the_oldest(rig: Rig) -> None:
    await install(rig, "1", "2", "3", "4")
    assert rig.versions() == [("4", "current"), ("3", "kept"), ("2", "kept")]


async def test_one_that_fails_when_gone_back_to_is_not_offered_again(rig: Rig) -> None:
    text = [manifest(v, health="within: 20s, stable_for: 0.3s") for v in "12"]
    await rig.job(await rig.send("app.install", instance="pump", manifest=text[0]))
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=text[1]))
    back = await rig.send("app.rollback", instance="pump")
    await rig.until(lambda: rig.serving() == ["pump:1"], "the older version")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(back)).state is JobState.ROLLED_BACK
    assert (rig.serving(), rig.versions()) == (["pump:2"], [("2", "current")])


async def test_a_kept_version_that_failed_is_marked_and_passed_over_unless_forced(rig: Rig) -> None:
    await install(rig, "1")
    stays = manifest("2", health="within: 20s, stable_for: 15s").replace(
        "  update:", "  update:\n    rollback: {automatic: false}"
    )
    reply = await rig.send("app.upgrade", instance="pump", manifest=stays)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.FAILED
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("3")))
    shown = rig.room.views.detail("pump")["versions"]
    assert [v["failed"] for v in shown] == ["", "main is unhealthy", ""]
    refused = await rig.send("app.rollback", instance="pump", to="2")
    assert (refused.code, refused.data["code"]) == (409, "release.known_bad")
    assert await roll_back(rig) is JobState.DONE
    assert rig.serving() == ["pump:1"]
    assert (await rig.send("app.rollback", instance="pump", to="2", force=True)).code == 202
    await rig.until(lambda: rig.serving() == ["pump:2"], "the forced one")


@pytest.mark.parametrize("to", ["9", "zz", "f" * 64, ""])
async def test_what_is_not_kept_is_refused_with_what_is(rig: Rig, to: str) -> None:
    await install(rig, *(("1", "2") if to else ("1",)))
    reply = await rig.send("app.rollback", instance="pump", to=to)
    assert reply.code == (404 if to else 409)
    assert ("it keeps 1 (" in reply.msg) == bool(to)
    assert rig.serving() == [f"pump:{2 if to else 1}"]


async def lose_image(rig: Rig, version: str) -> None:
    """Somebody removes an image by hand."""
    await rig.images.remove(rig.images.publish(f"{REGISTRY}/pump:{version}"))


async def test_an_image_that_was_removed_by_hand_is_fetched_again_to_go_back(rig: Rig) -> None:
    await install(rig, "1", "2")
    await lose_image(rig, "1")
    assert await roll_back(rig) is JobState.DONE
    assert (rig.serving(), rig.versions()) == (["pump:1"], [("1", "current"), ("2", "kept")])


async def test_a_kept_version_that_cannot_be_reached_now_stays_kept(rig: Rig) -> None:
    await install(rig, "1", "2", "3")
    await lose_image(rig, "2")
    rig.images.fail_next("pull", Unreachable("registry.unreachable", "the registry is away"), times=1000)
    assert await roll_back(rig, deadline_s=1) is JobState.ROLLED_BACK
    assert (rig.serving(), rig.versions()) == (["pump:3"], [("3", "current"), ("1", "kept"), ("2", "kept")])


async def test_going_back_that_is_cancelled_keeps_the_version(rig: Rig) -> None:
    text = [manifest(v, health="within: 20s, stable_for: 1s") for v in "12"]
    await rig.job(await rig.send("app.install", instance="pump", manifest=text[0]))
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=text[1]))
    reply = await rig.send("app.rollback", instance="pump")
    await rig.until(lambda: rig.serving() == ["pump:1"], "the older version")
    assert (await rig.send("job.cancel", job=reply.job)).code == 200
    await rig.until(lambda: rig.serving() == ["pump:2"], "its going back")
    assert rig.versions() == [("2", "current"), ("1", "kept")]


async def test_a_roll_back_that_is_taken_back_in_its_trial_costs_no_kept_version(rig: Rig) -> None:
    slow = manifest("1", health="within: 20s, stable_for: 2s")
    assert (await rig.job(await rig.send("app.install", instance="pump", manifest=slow))).state is JobState.DONE
    for version in "23":
        await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest(version)))
    await rig.send("app.rollback", instance="pump", to="1")
    await rig.until(lambda: rig.serving() == ["pump:1"], "the trial of the older one")
    assert await roll_back(rig) is JobState.DONE
    assert rig.versions() == [("3", "current"), ("2", "kept"), ("1", "kept")]
