"""A bundle at a signed URL: the signature opens it, is written nowhere, and is asked for again when a restart lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.bundles.shelf import BundleShelf
from agent.domain.command import Job, JobState, Origin
from agent.errors import Unauthorised, Unreachable
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex
from agent.registry.blobs import BlobStore
from agent.registry.kept import Kept
from tests.control.packer import Packer
from tests.control.rig import REGISTRY, Rig

URL = f"https://{REGISTRY}/bundles/pump-1.bundle"
SIGNATURE = "X-Signature=0f1e2d3c&X-Expires=900"
SHA256 = "0" * 64


class Place:
    """Where bundles are fetched from: open to the signature alone, or gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signature = SIGNATURE
        self.down = False

    async def download(self, url: str, digest: str, progress: object) -> Path:
        """The file that the URL names."""
        path, _, query = url.partition("?")
        if self.down:
            raise Unreachable("image.registry_unreachable", f"{path} does not answer")
        if query != self.signature:
            raise Unauthorised("image.unauthorised", f"{path}: not allowed")
        return self.folder / path.rpartition("/")[2]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "stick")


@pytest.fixture
async def rig(tmp_path: Path, place: Place) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "gateway")
    blobs = rig.root / "blobs"
    rig.bundles = BundleShelf(rig.root / "bundles", BlobStore(blobs), Kept(blobs / "manifests"), place.download)
    await rig.start()
    await Packer(rig, place.folder).pack("1")
    yield rig
    await rig.kill()


async def installed(rig: Rig) -> None:
    desired = rig.room.ledger.desired
    await rig.until(lambda: "pump" in desired and not desired["pump"].job, "its installation")


def fetch(signature: str = SIGNATURE) -> dict[str, Any]:
    return {"instance": "pump", "url": f"{URL}?{signature}#part", "sha256": SHA256}


async def everything(rig: Rig, *said: object) -> str:
    """All that is on disk, in memory for people to see, and was answered."""
    shown = [await rig.send(type_, Origin.LOCAL) for type_ in ("job.list", "app.list", "alarm.list")]
    on_disk = await asyncio.to_thread(rig.written)
    return repr((said, shown, rig.room.ledger.jobs, rig.room.ledger.desired)) + on_disk.decode(errors="replace")


async def test_a_signature_opens_the_bundle_and_is_written_nowhere(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    reply = await rig.send("bundle.fetch", id_="once", **fetch())
    job = await rig.job(reply)
    assert job.state is JobState.DONE, job.message
    await installed(rig)
    assert await rig.send("bundle.fetch", id_="once", **fetch()) == reply
    wrong = await rig.job(await rig.send("bundle.fetch", **fetch("0f1e2d3c")))
    assert (wrong.state, "not allowed" in wrong.message) == (JobState.FAILED, True)
    bad = await rig.send("bundle.fetch", **{**fetch(), "url": f"https://[::1?{SIGNATURE}"})
    assert bad.code == 400
    off = await rig.send("bundle.fetch", **{**fetch(), "url": f"https://evil.example/x?{SIGNATURE}"})
    assert off.code == 403
    assert "0f1e2d3c" not in await everything(rig, reply, bad, off) + caplog.text


async def test_a_job_that_lost_the_signature_waits_for_it_and_goes_on_with_the_same_command(
    rig: Rig, place: Place
) -> None:
    place.down = True
    reply = await rig.send("bundle.fetch", **fetch())
    await rig.loses_login(reply.job)
    assert REGISTRY in rig.job_now(reply.job).message
    assert "send the command again" in rig.job_now(reply.job).message
    place.down, place.signature = False, f"X-Signature=new-{SHA256}"
    again = await rig.send("bundle.fetch", **fetch(place.signature))
    assert (again.code, again.job) == (202, reply.job)
    assert (await rig.job(again)).state is JobState.DONE
    await installed(rig)
    assert "X-Signature" not in await everything(rig, reply, again)


async def test_what_is_no_bundle_is_told_by_its_url_and_not_by_where_it_lies_here(rig: Rig, place: Place) -> None:
    packed = place.folder / URL.rpartition("/")[2]
    packed.write_bytes(packed.read_bytes()[:700])
    job = await rig.job(await rig.send("bundle.fetch", **fetch()))
    assert (job.state, job.message.split(": ")[0]) == (JobState.FAILED, URL)
    assert str(packed) not in await everything(rig, job)
    assert "X-Signature" not in job.message


async def wish(rig: Rig, revision: int) -> Job:
    await rig.room.wishes.take_bundle(DesiredBundle("pump", f"{URL}?{SIGNATURE}", SHA256))
    await rig.room.wishes.take_index(DesiredIndex(revision, {"pump": DesiredApp("", "running", {})}, {}))
    (job,) = rig.room.ledger.jobs.values()
    return job


async def test_the_desired_state_of_a_later_revision_brings_a_signature_again(rig: Rig, place: Place) -> None:
    place.down = True
    job = await wish(rig, 1)
    await rig.loses_login(job.id)
    place.down = False
    assert (await wish(rig, 2)).id == job.id
    assert (await rig.ended(job.id)).state is JobState.DONE
    await installed(rig)
    assert "X-Signature" not in await everything(rig)


async def test_a_url_without_a_query_needs_nothing_after_a_restart(rig: Rig, place: Place) -> None:
    place.down, place.signature = True, ""
    reply = await rig.send("bundle.fetch", **{**fetch(), "url": URL})
    await rig.tries_again(reply.job)
    await rig.restart()
    place.down = False
    assert (await rig.job(reply)).state is JobState.DONE
    await installed(rig)
