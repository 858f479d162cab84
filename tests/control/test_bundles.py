"""A bundle takes the way of every deployment: the same admission, job and health gate, with its images along."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control.bundles.sticks import Sticks
from agent.domain.alarm import MOST_KEY, Severity
from agent.domain.command import JobState, Origin, Reply
from agent.domain.container import Health
from agent.domain.journal import Change
from agent.errors import Failed
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex
from tests.control.packer import Packer, installed, sticks_of
from tests.control.rig import REGISTRY, Rig, manifest


async def test_a_bundle_installs_and_a_newer_one_upgrades_without_asking_any_registry(rig: Rig, packer: Packer) -> None:
    for version in ("1", "2"):
        job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(await packer.pack(version))))
        assert job.state is JobState.DONE, job.message
    assert rig.room.ledger.get("pump").owner is Origin.LOCAL
    versions = [rig.room.catalog.release(v.release).version for v in rig.room.ledger.get("pump").versions]
    assert versions == ["2", "1"]
    assert not [op for op, _ in rig.images.log if op == "pin"]


@pytest.mark.may_block  # the test looks into folders itself
async def test_its_files_lie_in_a_folder_of_the_versions_own_and_a_roll_back_finds_the_old_ones(
    rig: Rig, packer: Packer
) -> None:
    for version in ("1", "2"):
        text = manifest(version, extra='volumes: ["./conf:/conf:ro"]')
        path = await packer.pack(version, files={"conf/a.conf": f"v={version}\n"}, text=text)
        job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))
        assert job.state is JobState.DONE, job.message
    new, old = rig.room.ledger.get("pump").versions
    assert [(Path(v.folder) / "conf/a.conf").read_text() for v in (new, old)] == ["v=2\n", "v=1\n"]
    assert (await rig.job(await rig.send("app.rollback", Origin.LOCAL, instance="pump"))).state is JobState.DONE
    mounts = [m.source for c in rig.engine.find("pump", "main") for m in rig.engine.spec_of(c.id).mounts if c.serving]
    assert f"{old.folder}/conf" in mounts
    # What no version needs any more goes.
    await rig.job(await rig.send("app.remove", Origin.LOCAL, instance="pump"))
    await rig.until(lambda: not Path(old.folder).exists(), "the end of its folder")


BOUND = 'volumes: ["./conf:/conf:ro"]'
GATE = "within: 20s, stable_for: 1s"


async def bring(rig: Rig, packer: Packer, word: str) -> Reply:
    """Import version 1 with `word` in a folder that its service mounts: all else stays the same."""
    text = manifest("1", extra=BOUND, health=GATE)
    path = await packer.pack("1", files={"conf/word": word}, text=text)
    return await rig.send("bundle.import", Origin.LOCAL, path=str(path))


async def test_a_bundle_that_failed_is_refused_and_one_that_differs_in_mounted_files_alone_is_tried(
    rig: Rig, packer: Packer
) -> None:
    assert (await rig.job(await bring(rig, packer, "right"))).state is JobState.DONE
    reply = await bring(rig, packer, "wrong")
    await rig.until(lambda: rig.room.ledger.jobs[reply.job].state is JobState.VERIFYING, "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    for _ in range(2):
        again = await bring(rig, packer, "wrong")
        assert (again.code, again.data["code"]) == (409, "release.known_bad")
        await rig.restart()
    job = await rig.job(await bring(rig, packer, "corrected"))
    assert (job.state, job.message) == (JobState.DONE, "")
    shown = rig.room.views.detail("pump")["versions"]
    assert [(v["state"], v["failed"]) for v in shown] == [("current", ""), ("kept", "")]
    assert shown[0]["release"] != shown[1]["release"]
    assert (await rig.job(await rig.send("app.rollback", Origin.LOCAL, instance="pump"))).state is JobState.DONE
    assert rig.room.views.detail("pump")["versions"][0]["release"] == shown[1]["release"]


async def test_the_same_bundle_again_is_no_other_version_and_touches_nothing(rig: Rig, packer: Packer) -> None:
    assert (await rig.job(await bring(rig, packer, "right"))).state is JobState.DONE
    before, made = rig.room.ledger.get("pump").versions, [c.id for c in rig.engine.find("pump", "main")]
    assert (await rig.job(await bring(rig, packer, "right"))).state is JobState.DONE
    job = await rig.job(await rig.send("app.configure", Origin.LOCAL, instance="pump", values={"LIMIT": 6.5}))
    assert job.state is JobState.DONE
    assert [c.id for c in rig.engine.find("pump", "main")] == made
    assert {v.release for v in rig.room.ledger.get("pump").versions} == {v.release for v in before}


async def test_another_version_with_the_same_files_leaves_alone_what_mounts_them(rig: Rig, packer: Packer) -> None:
    def two(command: str) -> str:
        side = f"  side:\n    image: {REGISTRY}/pump:1\n    command: [{command}]\n"
        return manifest("1", extra=BOUND) + side

    made: list[dict[str, str]] = []
    for command in ("one", "two"):
        path = await packer.pack("1", files={"conf/word": "right"}, text=two(command))
        assert (await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))).state is JobState.DONE
        made.append({name: c.id for name in ("main", "side") for c in rig.engine.find("pump", name)})
    assert made[0]["main"] == made[1]["main"]
    assert made[0]["side"] != made[1]["side"]


@pytest.mark.parametrize("older", [False, True])
async def test_what_is_upgraded_without_files_of_its_own_keeps_the_folder_and_counts_what_is_in_it(
    rig: Rig, packer: Packer, older: bool
) -> None:
    assert (await rig.job(await bring(rig, packer, "right"))).state is JobState.DONE
    if older:  # as an agent wrote it whose versions did not hold the digest
        desired = rig.room.ledger.get("pump")
        assert desired.current is not None
        without = replace(desired, current=replace(desired.current, beside=""))
        await rig.room.ledger.decide(lambda: Change(desired=(without,)))
    text = manifest("2", extra=BOUND)
    job = await rig.job(await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=text))
    assert job.state is JobState.DONE, job.message
    new, old = rig.room.ledger.get("pump").versions
    kept = rig.room.ledger.releases
    assert new.folder == old.folder
    assert kept[new.release].beside == kept[old.release].beside == new.beside != ""


async def test_what_mounts_of_a_folder_that_came_with_a_version_that_did_not_counts_what_is_in_it(
    rig: Rig, packer: Packer
) -> None:
    async def bring_unmounted(word: str) -> None:
        path = await packer.pack("1", files={"conf/word": word}, text=manifest("1", health=GATE))
        job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))
        assert job.state is JobState.DONE, job.message

    async def mount() -> Reply:
        text = manifest("2", extra=BOUND, health=GATE)
        return await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=text)

    await bring_unmounted("wrong")
    reply = await mount()
    await rig.until(lambda: rig.room.ledger.jobs[reply.job].state is JobState.VERIFYING, "the trial")
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    again = await rig.job(await mount())
    assert (again.state, "failed before" in again.message) == (JobState.FAILED, True)
    # The files alone are corrected: what mounts none of them is the same release as before.
    await bring_unmounted("right")
    job = await rig.job(await mount())
    assert (job.state, job.message) == (JobState.DONE, "")
    new, old = rig.room.ledger.get("pump").versions[:2]
    assert (new.folder, new.beside) == (old.folder, old.beside)


@pytest.mark.may_block  # the test looks into folders itself
async def test_admission_holds_for_bundles_too_and_nothing_is_left(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1", text=manifest("1", extra="privileged: true"))
    reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path))
    assert (reply.code, reply.data["code"]) == (403, "admission.privileged")
    assert rig.room.ledger.desired == {}
    assert not (rig.root / "bundles").exists() or not list((rig.root / "bundles").iterdir())


async def test_the_cloud_may_not_name_a_bundle_on_the_gateways_disk(rig: Rig, packer: Packer) -> None:
    assert (await rig.send("bundle.import", Origin.CLOUD, path=str(await packer.pack("1")))).code == 403


async def test_a_bundle_of_what_the_cloud_owns_is_a_conflict_until_it_is_taken_over(rig: Rig, packer: Packer) -> None:
    assert (await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))).state == "done"
    path = str(await packer.pack("2"))
    assert (await rig.send("bundle.import", Origin.LOCAL, path=path)).code == 409
    job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=path, take_over=True))
    assert job.state is JobState.DONE


@pytest.mark.may_block  # the test moves the file itself
async def test_a_stick_that_was_pulled_out_is_waited_for(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")
    away = path.with_suffix(".away")
    reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path), at=rig.clock.now_ms() + 400)
    path.rename(away)
    jobs = rig.room.ledger.jobs
    await rig.until(lambda: "cannot read the bundle" in jobs[reply.job].message, "the stick to be missed")
    away.rename(path)
    assert (await rig.job(reply)).state is JobState.DONE


async def test_a_job_that_an_older_agent_left_without_the_bundles_key_goes_on(rig: Rig, packer: Packer) -> None:
    path = str(await packer.pack("1"))
    reply = await rig.send("bundle.import", Origin.LOCAL, path=path, at=rig.clock.now_ms() + 400)
    job = rig.job_now(reply.job)
    given = {name: value for name, value in job.params.items() if name != "key"}
    assert len(given) < len(job.params)
    await rig.room.ledger.decide(lambda: Change(jobs=(replace(job, params=given),)))
    ended = await rig.job(reply)
    assert ended.state is JobState.DONE, ended.message


async def test_a_watched_folder_takes_each_bundle_once_also_after_a_restart(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")

    looking = sticks_of(rig, path.parent.parent)
    for _ in range(3):
        await looking.look()
    await rig.until(lambda: installed(rig), "its installation")
    await rig.restart()
    jobs = len(rig.room.ledger.jobs)
    looking = sticks_of(rig, path.parent.parent)
    for _ in range(3):
        await looking.look()
    assert len(rig.room.ledger.jobs) == jobs


@pytest.mark.may_block  # the test moves the file itself
@pytest.mark.parametrize("taken_away", [False, True])
async def test_a_watched_bundle_that_fails_in_its_job_is_one_alarm_until_it_succeeds_or_goes(
    rig: Rig, packer: Packer, taken_away: bool
) -> None:
    path = await packer.pack("1")
    away = path.with_suffix(".away")
    rig.engine.fail_next("create", Failed("engine.failed", "no such runtime"), times=50)
    looking = sticks_of(rig, path.parent)
    for _ in range(2):
        await looking.look()
    [job] = rig.room.ledger.jobs
    assert (await rig.ended(job)).state is JobState.FAILED
    for _ in range(3):
        await looking.look()
    [alarm] = rig.plane.alarms.active()
    assert (alarm.source, job in alarm.message, "no such runtime" in alarm.message) == (f"bundle:{path}", True, True)
    await rig.restart()
    looking = sticks_of(rig, path.parent)
    for _ in range(3):
        await looking.look()
    assert [each.source for each in rig.plane.alarms.active()] == [f"bundle:{path}"]
    if taken_away:
        path.rename(away)
    else:
        rig.engine.faults.clear()
        again = await rig.send("bundle.import", Origin.LOCAL, path=str(path), force=True)
        assert (await rig.job(again)).state is JobState.DONE
    await looking.look()
    assert rig.plane.alarms.active() == []


@pytest.mark.may_block  # the test writes the file itself
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_bundle_whose_copy_was_spoilt_is_taken_again_when_a_right_copy_comes(
    rig: Rig, packer: Packer, restarted: bool
) -> None:
    path = await packer.pack("1")
    whole = path.read_bytes()
    assert b"layer of 1" in whole
    path.write_bytes(whole.replace(b"layer of 1", b"LAYER of 1"))
    room, shelf = rig.room, rig.bundles
    looking = Sticks([path.parent], room.inbox, room.ledger, shelf, rig.plane.alarms, take_over=False)
    for _ in range(3):
        await looking.look()
    [job] = rig.room.ledger.jobs.values()
    assert (await rig.ended(job.id)).state is JobState.FAILED
    for _ in range(3):
        await looking.look()
    assert len(rig.room.ledger.jobs) == 1
    if restarted:
        await rig.restart()
        room, shelf = rig.room, rig.bundles
        path.unlink()
        looking = Sticks([path.parent], room.inbox, room.ledger, shelf, rig.plane.alarms, take_over=False)
    path.write_bytes(whole)
    for _ in range(3):
        await looking.look()
    [again] = [j for j in rig.room.ledger.jobs.values() if j.id != job.id]
    assert (await rig.ended(again.id)).state is JobState.DONE
    for _ in range(3):
        await looking.look()
    assert len(rig.room.ledger.jobs) == 2


@pytest.mark.may_block  # the test writes the file itself
@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_spoilt_copy_that_stays_is_taken_once_and_a_right_one_in_its_place_then(
    rig: Rig, packer: Packer, forgotten: bool
) -> None:
    async def look_anew() -> list[str]:
        """The jobs that an agent makes which begins now, with the copies on another mount."""
        await rig.restart()
        before = set(rig.room.ledger.jobs)
        looking = sticks_of(rig, path.parent)
        for _ in range(3):
            await looking.look()
        return [id_ for id_ in rig.room.ledger.jobs if id_ not in before]

    path = await packer.pack("1")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"layer of 1", b"LAYER of 1"))
    looking = sticks_of(rig, path.parent)
    for _ in range(2):
        await looking.look()
    [job] = rig.room.ledger.jobs
    assert (await rig.ended(job)).state is JobState.FAILED
    await looking.look()
    if forgotten:
        await rig.room.ledger.decide(lambda: Change(jobs_gone=(job,)))
    for spoilt in (b"LAYER of 1", b"lAyEr of 1"):
        path.write_bytes(whole.replace(b"layer of 1", spoilt))
        assert await look_anew() == []
        [alarm] = rig.plane.alarms.active()
        assert "is not what the index says" in alarm.message
    # A copy may keep the time of what was copied: by its stamp it is the one that was there.
    status = path.stat()
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    [again] = await look_anew()
    assert (await rig.ended(again)).state is JobState.DONE
    assert rig.plane.alarms.active() == []
    assert await look_anew() == []


@pytest.mark.may_block  # the test writes the file itself
async def test_a_bundle_that_is_still_being_copied_is_left_alone_and_a_broken_one_is_an_alarm(
    rig: Rig, packer: Packer
) -> None:
    path = await packer.pack("1")
    whole = path.read_bytes()
    looking = sticks_of(rig, path.parent)
    for size in (1000, 2000, 3000):
        path.write_bytes(whole[:size])
        await looking.look()
    assert not rig.plane.alarms.active()
    await looking.look()
    [alarm] = rig.plane.alarms.active()
    assert (alarm.source, alarm.severity) == (f"bundle:{path}", Severity.MINOR)
    assert "in the middle" in alarm.message
    path.write_bytes(whole)
    for _ in range(2):
        await looking.look()
    assert not rig.plane.alarms.active()
    await rig.until(lambda: "pump" in rig.room.ledger.desired, "its installation")


@pytest.mark.may_block  # the test writes the file itself
async def test_the_alarm_of_a_file_is_acknowledged_however_long_its_path_is_when_it_is_shown(rig: Rig) -> None:
    path = rig.root.joinpath(*["\udcff" * 250] * 2, "pump.bundle")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no bundle")
    looking = sticks_of(rig, path.parent)
    for _ in range(2):
        await looking.look()
    [alarm] = rig.plane.alarms.active()
    assert len(alarm.key) > 6 * 500
    assert len(ascii("\udcff" * 4095)) + len("bundle:/refused") < MOST_KEY
    reply = await rig.send("alarm.ack", key=alarm.key)
    assert (reply.code, rig.plane.alarms.active()[0].acknowledged_ms > 0) == (200, True), reply.msg


@pytest.mark.may_block  # the test puts the file where the fake download finds it
async def test_the_cloud_names_a_bundle_by_url_and_hash_in_a_command_and_in_its_desired_state(
    rig: Rig, packer: Packer
) -> None:
    world = rig.root / "world"
    world.mkdir()
    for number in ("1", "2"):
        (await packer.pack(number)).rename(world / f"pump-{number}.bundle")
    url = f"https://{REGISTRY}/bundles/pump-1.bundle"
    reply = await rig.send("bundle.fetch", instance="pump", url=url, sha256="0" * 64, values={"LIMIT": 7})
    assert (await rig.job(reply)).state is JobState.DONE
    ledger = rig.room.ledger
    assert ledger.get("pump").owner is Origin.CLOUD
    await rig.room.wishes.take_bundle(DesiredBundle("pump", url.replace("pump-1", "pump-2"), "1" * 64))
    await rig.room.wishes.take_index(DesiredIndex(1, {"pump": DesiredApp("", "running", {"LIMIT": 8})}, {}))

    def version() -> str:
        current = ledger.get("pump").current
        return rig.room.catalog.release(current.release).version if current else ""

    await rig.until(lambda: version() == "2" and not ledger.get("pump").job, "version 2 by the desired state")
    current = ledger.get("pump").current
    assert current is not None
    assert current.cloud.values == {"LIMIT": 8}


async def test_a_bundle_from_a_place_off_the_allow_list_is_refused(rig: Rig) -> None:
    for url in ("https://evil.example/x.bundle", "https://127.0.0.1:5001/x.bundle"):
        reply = await rig.send("bundle.fetch", instance="pump", url=url, sha256="0" * 64)
        assert (reply.code, reply.data["code"]) == (403, "admission.registry")
    for url in ("file:///etc/passwd", "https://user@127.0.0.1:5000/x", "ftp://127.0.0.1:5000/x"):
        assert (await rig.send("bundle.fetch", instance="pump", url=url, sha256="0" * 64)).code == 400
