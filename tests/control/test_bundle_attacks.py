"""Bundles that are wrong, changed under way, or too much: a clear word, and everything as it was before."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.bundles.shelf import BundleShelf, Room
from agent.control.bundles.sticks import AGAIN_LOOKS, Sticks
from agent.domain.command import JobState, Origin
from agent.errors import GatewayError, Malformed, TimedOut
from agent.ports import BundleHead
from agent.registry.blobs import BlobStore
from agent.registry.kept import Kept
from tests.control.packer import Packer, installed, sticks_of
from tests.control.rig import REGISTRY, Rig, manifest
from tests.faults import loopfs

pytestmark = pytest.mark.may_block  # the tests write and look into files themselves


def traces(rig: Rig) -> dict[str, Any]:
    """What a bundle could leave behind: files, images, instances, jobs that are not over."""
    files = (path for name in ("bundles", "blobs") for path in (rig.root / name).rglob("*") if path.is_file())
    return {
        "files": sorted(str(path) for path in files),
        "engine": sorted(ref for op, ref in rig.images.log if op in ("pull", "load")),
        "desired": {name: replace(each, job="") for name, each in rig.room.ledger.desired.items()},
        "open": [job for job in rig.room.ledger.jobs.values() if not job.state.final],
    }


Make = Callable[[Packer], Awaitable[Path]]


async def cut(packer: Packer, twentieths: int) -> Path:
    path = await packer.pack("1")
    whole = path.read_bytes().rstrip(b"\0")
    path.write_bytes(whole[: len(whole) * twentieths // 20])
    return path


def oversized(field: bytes) -> Make:
    """The header of the manifest says that it has ever so many bytes."""

    async def make(packer: Packer) -> Path:
        path = await packer.pack("1")
        data = bytearray(path.read_bytes())
        at = data.index(b"app.yaml\0")
        data[at + 124 : at + 136] = field
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        path.write_bytes(data)
        return path

    return make


def list_of(*digests: str) -> bytes:
    rows = [{"digest": digest, "size": 2, "platform": {"architecture": "amd64", "os": "linux"}} for digest in digests]
    return json.dumps({"schemaVersion": 2, "manifests": rows}).encode()


async def without(packer: Packer, part: str) -> Path:
    return await packer.pack("1", leave_out=part)


async def another_image(packer: Packer) -> Path:
    text = manifest("1") + f"  more: {{image: '{REGISTRY}/other:1'}}\n"
    return await packer.pack("1", text=text)


async def missing(packer: Packer) -> Path:
    path = await packer.pack("1")
    path.unlink()
    return path


async def zipped(packer: Packer) -> Path:
    path = await packer.pack("1")
    with tarfile.open(path.with_suffix(".gz"), "w:gz") as archive:
        archive.add(path, "pump.bundle")
    return path.with_suffix(".gz")


async def foreign(packer: Packer) -> Path:
    path = await packer.pack("1")
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("oci-layout"), io.BytesIO())
    return path


WRONG: dict[str, tuple[Make, str]] = {
    **{f"cut at {n}/20": (lambda packer, n=n: cut(packer, n), "bundle.") for n in range(20)},  # type: ignore[misc]
    "not there": (missing, "bundle.gone"),
    "64 GiB by its header": (oversized(b"7" * 11 + b"\0"), "bundle.member|bundle.truncated"),
    "8 EiB by its header": (oversized(b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7), "bundle.member"),
    "less than nothing": (oversized(b"\xff" * 12), "bundle.member"),
    "no configuration": (lambda packer: without(packer, "config"), "bundle.incomplete"),
    "no layer": (lambda packer: without(packer, "layer"), "bundle.incomplete"),
    "a list of what is not in it": (
        lambda packer: packer.pack("1", spoil={"document": list_of("sha256:" + "1" * 64)}),
        "bundle.incomplete",
    ),
    "a list of nothing": (lambda packer: packer.pack("1", spoil={"document": list_of()}), "bundle.incomplete"),
    "no manifest of an image": (lambda packer: packer.pack("1", spoil={"document": b"[]"}), "bundle.image"),
    "a manifest that is no JSON": (lambda packer: packer.pack("1", spoil={"document": b"\xff{"}), "bundle.image"),
    "an image that is not in it": (another_image, "bundle.incomplete"),
    "packed once more": (zipped, "bundle.foreign"),
    "another archive": (foreign, "bundle.foreign"),
    "a manifest that is no APP's": (lambda packer: packer.pack("1", text="services: 3\n"), "manifest"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_bundle_that_is_wrong_is_refused_at_once_and_leaves_nothing(
    rig: Rig, packer: Packer, case: str
) -> None:
    make, code = WRONG[case]
    path = await make(packer)
    before = traces(rig)
    reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path))
    assert reply.code == 400, reply
    assert any(reply.data["code"].startswith(each) for each in code.split("|")), reply
    assert str(path) in reply.msg or code == "manifest"
    assert traces(rig) == before
    assert not rig.room.ledger.jobs


async def test_a_layer_that_was_changed_ends_the_job_and_leaves_nothing(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")
    path.write_bytes(path.read_bytes().replace(b"layer of 1layer of 1", b"layer of 2layer of 1", 1))
    before = traces(rig)
    job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))
    assert (job.state, "is not what the index says" in job.message) == (JobState.FAILED, True)
    await rig.until(lambda: traces(rig)["files"] == before["files"], "the end of its folder")
    assert traces(rig) == before


async def test_a_file_that_was_swapped_while_its_job_waited_ends_it_and_the_version_before_stays(
    rig: Rig, packer: Packer
) -> None:
    text = manifest("1", extra='volumes: ["./conf:/conf:ro"]')
    path = await packer.pack("1", files={"conf/a.conf": "v=1\n"}, text=text)
    assert (await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))).state is JobState.DONE
    before = traces(rig)
    path = await packer.pack("2", files={"conf/a.conf": "v=2\n"}, text=text.replace(":1\n", ":2\n"))
    reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path), at=rig.clock.now_ms() + 700)
    assert reply.code == 202, reply
    other = await packer.pack("2", files={"conf/a.conf": "v=3\n"}, text=text.replace(":1\n", ":2\n"))
    assert other == path
    job = await rig.job(reply)
    assert (job.state, "is not the bundle any more that was checked" in job.message) == (JobState.FAILED, True)
    await rig.until(lambda: traces(rig)["files"] == before["files"], "the end of its folder")
    assert traces(rig) == before
    assert len([c for c in rig.engine.find("pump", "main") if c.serving]) == 1


async def test_two_instances_of_one_bundle_at_once_both_have_their_files(rig: Rig, packer: Packer) -> None:
    text = manifest("1", extra='volumes: ["./conf:/conf:ro"]')
    path = await packer.pack("1", files={"conf/a.conf": "v=1\n"}, text=text)
    names = ("pump", "pump-2", "pump-3")
    replies = [await rig.send("bundle.import", Origin.LOCAL, path=str(path), instance=name) for name in names]
    assert [(await rig.job(reply)).state for reply in replies] == [JobState.DONE] * 3
    current = [rig.room.ledger.get(name).current for name in names]
    assert [(Path(v.folder) / "conf/a.conf").read_text() for v in current if v] == ["v=1\n"] * 3


async def test_the_same_version_with_other_content_is_an_upgrade_to_that_content(rig: Rig, packer: Packer) -> None:
    text = manifest("1", extra='volumes: ["./conf:/conf:ro"]')
    for number in ("1", "2"):
        path = await packer.pack("1", files={"conf/a.conf": f"v={number}\n"}, text=text)
        job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))
        assert job.state is JobState.DONE, job.message
        (mount,) = [m for c in rig.engine.find("pump", "main") if c.serving for m in rig.engine.spec_of(c.id).mounts
                    if m.target == "/conf"]  # fmt: skip
        assert (Path(mount.source) / "a.conf").read_text() == f"v={number}\n"


async def test_a_layer_that_is_a_bomb_ends_its_job_before_the_engine_sees_it(rig: Rig, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    blobs = rig.root / "blobs"
    free_bytes = 32 << 20

    async def engine_free() -> int:
        return free_bytes

    async def no_download(*_: object) -> Path:
        raise AssertionError

    shelf = BundleShelf(
        rig.root / "bundles", BlobStore(blobs), Kept(blobs / "manifests"), no_download, room=Room(0, engine_free)
    )
    path = await Packer(rig, tmp_path / "stick").pack("1", spoil={"layer": bomb})
    head = await shelf.look(str(path), to_take=True)
    before = traces(rig)
    with pytest.raises(Malformed, match="200 times its size"):
        await shelf.take(str(path), head.key, head.folder, lambda done, total, what: None)
    await shelf.keep(set)
    assert traces(rig) == before
    free_bytes = 1 << 40
    await shelf.take(str(path), head.key, head.folder, lambda done, total, what: None)
    assert len(traces(rig)["files"]) > len(before["files"])
    shelf.close()


async def test_more_than_the_disk_has_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    async def no_download(*_: object) -> Path:
        raise AssertionError

    rig = Rig(tmp_path / "gateway")
    blobs = rig.root / "blobs"
    rig.bundles = BundleShelf(
        rig.root / "bundles", BlobStore(blobs), Kept(blobs / "manifests"), no_download, room=Room(1 << 60)
    )
    await rig.start()
    try:
        path = await Packer(rig, tmp_path / "stick").pack("1")
        before = traces(rig)
        reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path))
        assert (reply.code, reply.data["code"]) == (507, "bundle.no_space")
        assert reply.data["needed_bytes"] > 0
        assert reply.data["title"].endswith("are free, of which 1048576 TiB are kept as reserve")
        assert (await rig.send("bundle.show", Origin.LOCAL, path=str(path))).code == 200
        looking = sticks_of(rig, path.parent)
        for _ in range(3):
            await looking.look()
        assert [alarm.source for alarm in rig.plane.alarms.active()] == [f"bundle:{path}"]
        assert traces(rig) == before
        # With room again it is taken, without anybody's doing.
        rig.bundles = BundleShelf(rig.root / "bundles", BlobStore(blobs), Kept(blobs / "manifests"), no_download)
        await rig.restart()
        looking = sticks_of(rig, path.parent)
        for _ in range(3):
            await looking.look()
        await rig.until(lambda: installed(rig), "its installation")
        assert rig.plane.alarms.active() == []
    finally:
        await rig.kill()


async def test_what_fails_although_its_copy_is_whole_is_not_taken_at_every_start(tmp_path: Path) -> None:
    async def no_download(*_: object) -> Path:
        raise AssertionError

    async def engine_free() -> int:
        return 32 << 20

    rig = Rig(tmp_path / "gateway")
    blobs = rig.root / "blobs"
    store, kept, room = BlobStore(blobs), Kept(blobs / "manifests"), Room(0, engine_free)
    rig.bundles = BundleShelf(rig.root / "bundles", store, kept, no_download, room=room)
    await rig.start()
    try:
        path = await Packer(rig, tmp_path / "stick").pack("1", spoil={"layer": gzip.compress(bytes(64 << 20), 9)})
        for _ in range(4):
            looking = sticks_of(rig, path.parent)
            for _ in range(3):
                await looking.look()
            for job in list(rig.room.ledger.jobs):
                assert "200 times its size" in (await rig.ended(job)).message
            await rig.restart()
        # Once as it came, and once more after it was read through.
        assert len(rig.room.ledger.jobs) == 2
    finally:
        await rig.kill()


class Moody(BundleShelf):
    """A shelf that may be told to refuse."""

    refusal: GatewayError | None = None

    async def look(self, path: str, *, to_take: bool = False, whole: bool = False) -> BundleHead:
        if self.refusal is not None:
            raise self.refusal
        return await super().look(path, to_take=to_take, whole=whole)


async def test_what_could_not_be_taken_yet_is_tried_again_now_and_then_and_said_once(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")
    blobs = rig.root / "blobs"
    shelf = Moody(rig.root / "bundles", BlobStore(blobs), Kept(blobs / "manifests"), rig.bundles.fetch)  # type: ignore[arg-type]
    shelf.refusal = TimedOut("bundle.slow", f"{path} cannot be read")
    looking = Sticks([path.parent], rig.room.inbox, rig.room.ledger, shelf, rig.plane.alarms, take_over=False)
    for _ in range(2 * AGAIN_LOOKS):
        await looking.look()
    assert [alarm.count for alarm in rig.plane.alarms.active()] == [1]
    shelf.refusal = None
    for _ in range(AGAIN_LOOKS + 2):
        await looking.look()
    assert rig.plane.alarms.active() == []
    await rig.until(lambda: installed(rig), "its installation")


async def test_the_same_bundle_under_other_names_and_on_another_stick_is_taken_once(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")
    for name in ("a", "b"):
        (path.parent / name).mkdir()
        (path.parent / name / f"{name}.bundle").write_bytes(path.read_bytes())
    looking = sticks_of(rig, path.parent)
    for _ in range(4):
        await looking.look()
    assert len(rig.room.ledger.jobs) == 1
    assert rig.plane.alarms.active() == []


async def test_two_sticks_with_files_of_one_name_have_an_alarm_each_which_goes_with_its_file(
    rig: Rig, packer: Packer
) -> None:
    path = await packer.pack("1")
    stumps = [path.parent / stick / "pump.bundle" for stick in ("a", "b")]
    for stump in stumps:
        stump.parent.mkdir()
        stump.write_bytes(path.read_bytes()[:2000])
    path.unlink()
    looking = sticks_of(rig, path.parent)
    for _ in range(3):
        await looking.look()
    assert sorted(alarm.source for alarm in rig.plane.alarms.active()) == [f"bundle:{stump}" for stump in stumps]
    stumps[0].unlink()
    await looking.look()
    assert [alarm.source for alarm in rig.plane.alarms.active()] == [f"bundle:{stumps[1]}"]


@pytest.mark.parametrize("name", ["a\nb.bundle", "\x1b[2J.bundle", "w\udcffde.bundle", "p" * 240 + ".bundle"])
async def test_whatever_a_bundle_on_a_stick_is_called_it_is_taken_or_refused_by_name(
    rig: Rig, packer: Packer, name: str
) -> None:
    path = await packer.pack("1")
    stick = path.parent / "stick"
    stick.mkdir()
    path.rename(stick / name)
    looking = sticks_of(rig, stick)
    for _ in range(3):
        await looking.look()
    alarms = rig.plane.alarms.active()
    if name.isprintable():
        assert alarms == []
        await rig.until(lambda: installed(rig), "its installation")
        return
    assert [(alarm.source, alarm.message.isprintable()) for alarm in alarms] == [
        (f"bundle:{str(stick / name)!a}", True)
    ]
    assert not rig.room.ledger.jobs
    (stick / name).unlink()
    await looking.look()
    assert rig.plane.alarms.active() == []


async def test_a_stick_that_goes_between_two_looks_leaves_no_alarm_and_no_job(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")
    path.write_bytes(path.read_bytes()[:2000])
    looking = sticks_of(rig, path.parent)
    for _ in range(3):
        await looking.look()
    assert len(rig.plane.alarms.active()) == 1
    await rig.restart()
    path.unlink()
    looking = sticks_of(rig, path.parent)
    await looking.look()
    assert rig.plane.alarms.active() == []
    assert not rig.room.ledger.jobs


async def test_a_pipe_on_a_stick_holds_nothing_up(rig: Rig, packer: Packer) -> None:
    path = await packer.pack("1")
    os.mkfifo(path.parent / "a.bundle")
    looking = sticks_of(rig, path.parent)
    async with asyncio.timeout(10):
        for _ in range(3):
            await looking.look()
    await rig.until(lambda: installed(rig), "its installation")
    reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path.parent / "a.bundle"))
    assert (reply.code, reply.data["code"]) == (400, "bundle.no_file")


async def test_a_stick_that_cannot_be_written_to_is_enough(rig: Rig, packer: Packer, tmp_path: Path) -> None:
    path = await packer.pack("1")
    loopfs.make(tmp_path / "image", "ext4-4k")
    with loopfs.mounted(tmp_path / "image", tmp_path / "media", "ext4-4k") as media:
        (media / "pump.bundle").write_bytes(path.read_bytes())
        loopfs.run("mount", "-o", "remount,ro", str(media))
        job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(media / "pump.bundle")))
    assert job.state is JobState.DONE, job.message
