"""What admission knows reaches it: a machine that is full, ports that are taken, and links that were turned since."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState, Origin
from agent.errors import Failed
from agent.ports import Room
from tests.control.rig import REGISTRY, Rig, manifest, running

MIB = 1024 * 1024


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


def inbound(port: int, name: str = "pump", extra: str = "") -> str:
    text = manifest(extra=f"ports: ['{port}:80']\n{extra}").replace("x-ec:\n", "x-ec:\n  network: inbound\n")
    return text.replace("name: pump", f"name: {name}")


async def test_a_full_disk_and_another_programs_port_refuse_an_install_and_leave_nothing(rig: Rig) -> None:
    rig.host.left = Room(disk_free_bytes=100 * MIB)
    reply = await rig.send("app.install", instance="pump", manifest=manifest())
    assert (reply.code, rig.room.ledger.desired) == (403, {})
    assert "of disk" in reply.msg
    rig.host.left = Room(listening=frozenset({(8080, "tcp", "::")}))
    reply = await rig.send("app.install", instance="pump", manifest=inbound(8080))
    assert (reply.code, rig.room.ledger.desired) == (403, {})
    assert "taken by another program" in reply.msg
    assert (await rig.send("app.install", instance="pump", manifest=inbound(8081))).code == 202


OTHER = f"{REGISTRY}/other:1"


async def fill_with_an_image(rig: Rig) -> None:
    """The disk has too little room for an APP as long as an image is there that nobody needs."""
    rig.images.brings[rig.images.publish(OTHER)] = {"size_bytes": 1000 * MIB}
    assert (await rig.job(await rig.send("image.pull", image=OTHER))).state is JobState.DONE

    def gain_room() -> None:
        rig.host.left = Room(disk_free_bytes=10_000 * MIB)

    rig.host.left = Room(disk_free_bytes=100 * MIB)
    rig.images.when_gone = gain_room


async def test_before_an_install_is_refused_for_disk_the_images_go_that_nobody_needs(rig: Rig) -> None:
    await fill_with_an_image(rig)
    assert (await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))).state is JobState.DONE
    assert await rig.images.find(OTHER) is None
    assert rig.serving() == ["pump:1"]


async def test_an_app_that_all_images_together_leave_no_room_for_is_refused_and_none_goes(rig: Rig) -> None:
    assert (await rig.job(await rig.send("image.pull", image=OTHER))).state is JobState.DONE
    rig.host.left = Room(disk_free_bytes=100 * MIB)
    reply = await rig.send("app.install", instance="pump", manifest=manifest())
    assert (reply.code, reply.data["code"]) == (403, "admission.disk")
    assert reply.data["needed_bytes"] > reply.data["free_bytes"] - reply.data["reserve_bytes"] + 2 * MIB
    rig.host.left = Room()
    pin = rig.images.faults.pause("pin")
    reply = await rig.send("app.install", instance="pump", manifest=manifest())
    await asyncio.wait_for(pin.reached.wait(), 10)
    rig.host.left = Room(disk_free_bytes=100 * MIB)
    pin.open()
    job = await rig.job(reply)
    assert (job.state, "of disk" in job.message) == (JobState.FAILED, True)
    assert await rig.images.find(OTHER) is not None


async def test_what_was_pulled_for_an_install_is_there_after_the_cleaning_that_let_it_in(rig: Rig) -> None:
    await rig.job(await rig.send("image.pull", image=f"{REGISTRY}/pump:1"))
    await fill_with_an_image(rig)
    pulls = len([each for each in rig.images.log if each[0] == "pull"])
    assert (await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))).state is JobState.DONE
    assert await rig.images.find(OTHER) is None
    assert len([each for each in rig.images.log if each[0] == "pull"]) == pulls


async def test_a_disk_that_became_full_after_the_command_was_accepted_is_cleaned_before_the_job_fails(rig: Rig) -> None:
    pin = rig.images.faults.pause("pin")
    reply = await rig.send("app.install", instance="pump", manifest=manifest())
    await pin.reached.wait()
    await fill_with_an_image(rig)
    pin.open()
    assert (await rig.job(reply)).state is JobState.DONE
    assert await rig.images.find(OTHER) is None
    assert rig.serving() == ["pump:1"]


async def test_a_plan_and_an_install_that_is_refused_for_something_else_too_clean_nothing(rig: Rig) -> None:
    await fill_with_an_image(rig)
    assert "of disk" in (await rig.send("app.plan", instance="pump", manifest=manifest())).msg
    greedy = manifest(extra="mem_limit: 9000m")
    assert (await rig.send("app.install", instance="pump", manifest=greedy)).code == 403
    assert await rig.images.find(OTHER) is not None
    assert ("prune", "") not in rig.images.log


async def test_the_sockets_of_the_machine_are_read_only_for_what_publishes_a_port(rig: Rig) -> None:
    rig.host.left = Room(listening=frozenset({(8080, "tcp", "::")}))
    job = await rig.job(await rig.send("app.install", instance="quiet", manifest=manifest()))
    assert (job.state, rig.host.socket_reads) == (JobState.DONE, 0)
    job = await rig.job(await rig.send("app.install", instance="open", manifest=inbound(8081, "open")))
    # Once before it is accepted, and once more under the decision that adopts it.
    assert (job.state, rig.host.socket_reads) == (JobState.DONE, 2)


async def test_a_port_that_another_program_took_after_the_command_was_accepted_fails_the_job(rig: Rig) -> None:
    pin = rig.images.faults.pause("pin")
    reply = await rig.send("app.install", instance="pump", manifest=inbound(8080))
    await pin.reached.wait()
    rig.host.left = Room(listening=frozenset({(8080, "tcp", "::")}))
    pin.open()
    job = await rig.job(reply)
    assert (reply.code, job.state, rig.serving()) == (202, JobState.FAILED, [])
    assert "taken by another program" in job.message


async def test_an_apps_own_port_does_not_stand_in_the_way_of_its_upgrade(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=inbound(8080)))
    rig.host.left = Room(listening=frozenset({(8080, "tcp", "0.0.0.0"), (8080, "tcp", "::")}))
    upgrade = inbound(8080).replace("pump:1", "pump:2")
    job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=upgrade))
    assert (job.state, rig.serving()) == (JobState.DONE, ["pump:2"])


async def test_what_is_promised_to_others_is_not_promised_again(rig: Rig) -> None:
    # The fake gateway has 2 GiB: twice what is left beside the reserve of 128 MiB is 3,840 MiB.
    big = manifest(extra="mem_limit: 1900m")
    for name in ("one", "two"):
        assert (await rig.send("app.install", instance=name, manifest=big)).code == 202
    await rig.until(lambda: all(d.current for d in rig.room.ledger.desired.values()), "both adopted")
    reply = await rig.send("app.install", instance="three", manifest=big)
    assert (reply.code, "three" in rig.room.ledger.desired) == (403, False)
    assert "the other APPs were promised 3800 MiB" in reply.msg


async def test_a_bind_whose_link_was_turned_after_the_adoption_is_not_started_again(rig: Rig, tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "apps.d" / "pump"
    (folder / "real").mkdir(parents=True)
    (folder / "conf").symlink_to("real")
    text = manifest(extra="volumes: ['./conf:/conf:ro']")
    reply = await rig.send("app.install", Origin.LOCAL, instance="pump", manifest=text, folder=str(folder))
    assert (await rig.job(reply)).state is JobState.DONE
    await rig.job(await rig.send("app.stop", Origin.LOCAL, instance="pump"))
    assert rig.serving() == []
    (folder / "conf").unlink()
    (folder / "conf").symlink_to("/etc")
    await rig.send("app.start", Origin.LOCAL, instance="pump")
    await rig.until(lambda: "pump" in rig.room.reconciler.errors, "the refusal")
    error = rig.room.reconciler.errors["pump"]
    assert (error.code, rig.serving()) == ("admission.bind", [])
    assert "leads out of the APP's folder (/etc)" in str(error)
    (folder / "conf").unlink()
    (folder / "conf").symlink_to("real")
    await rig.until(lambda: rig.serving() == ["pump:1"], "the start once the link is back")


async def test_the_machine_is_asked_about_the_volumes_that_a_roll_back_copies(rig: Rig) -> None:
    extra = "volumes: ['data:/data']"
    text = manifest(extra=extra, health="within: 3s, stable_for: 0s") + "volumes: {data: {}}\n"
    text = text.replace("  update:\n", "  update:\n    rollback: {volumes: [data]}\n")
    rig.host.left = Room(disk_free_bytes=300 * MIB)
    rig.host.trees["/var/lib/fake/volumes/ec-pump_data/_data"] = 100 * MIB
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=text))
    assert (job.state, "copies of volumes 100" in job.message) == (JobState.FAILED, True)


async def test_while_a_version_is_on_trial_nobody_takes_what_the_one_before_may_need_again(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=inbound(8080)))
    trial = (
        inbound(9090).replace("pump:1", "pump:2").replace("within: 3s, stable_for: 0s", "within: 60s, stable_for: 40s")
    )
    reply = await rig.send("app.upgrade", instance="pump", manifest=trial)
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version on trial")
    other = await rig.send("app.install", instance="thief", manifest=inbound(8080, "thief"))
    assert (other.code, "taken by instance pump" in other.msg) == (403, True)
    await rig.send("job.cancel", job=reply.job)
    await rig.until(lambda: rig.serving() == ["pump:1"], "the version before, on its port")


async def test_a_roll_back_by_hand_is_refused_while_another_app_has_its_port(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=inbound(8080)))
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=inbound(9090).replace("pump:1", "pump:2")))
    await rig.job(await rig.send("app.install", instance="thief", manifest=inbound(8080, "thief")))
    reply = await rig.send("app.rollback", instance="pump")
    assert (reply.code, "taken by instance thief" in reply.msg) == (403, True)
    assert rig.serving() == ["pump:2"]
    await rig.job(await rig.send("app.remove", instance="thief"))
    assert (await rig.job(await rig.send("app.rollback", instance="pump"))).state is JobState.DONE
    assert rig.serving() == ["pump:1"]


async def test_a_firewall_that_was_reloaded_is_put_right_at_the_next_look_or_it_is_said(rig: Rig) -> None:
    rig.engine.faults.fail_next("assure_isolation", Failed("engine.host_rule", "no iptables"), times=50)
    await rig.room.engine.ask()
    assert rig.alarms.standing["engine/host_rule"].message.startswith("no iptables")
    rig.room.engine.look("pump")
    assert "engine/host_rule" in rig.alarms.standing
    rig.engine.faults.clear()
    await rig.room.engine.ask()
    assert "engine/host_rule" not in rig.alarms.standing
