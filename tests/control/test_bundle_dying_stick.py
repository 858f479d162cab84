"""A stick whose blocks cannot be read any more: said so, waited for as one that was pulled out, and in nobody's way."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from agent.domain.command import JobState, Origin
from tests.control.packer import Packer
from tests.control.rig import Rig
from tests.faults import loopfs

pytestmark = pytest.mark.may_block  # the test mounts and spoils the stick itself
MIB = 1024 * 1024


async def test_a_stick_that_dies_is_said_to_be_unreadable_and_others_go_on(rig: Rig, tmp_path: Path) -> None:
    packer = Packer(rig, tmp_path / "packed")
    bulk = {f"bulk-{number}": secrets.token_hex(MIB) for number in range(5)}
    path = await packer.pack("1", files=bulk)
    image = tmp_path / "image"
    loopfs.make(image, "ext4-4k")
    with loopfs.mounted(image, tmp_path / "media", "ext4-4k") as media:
        (media / "pump.bundle").write_bytes(path.read_bytes())
    with loopfs.mounted(image, tmp_path / "media", "ext4-4k") as media:
        stick = str(media / "pump.bundle")
        reply = await rig.send("bundle.import", Origin.LOCAL, path=stick, at=rig.clock.now_ms() + 600)
        assert reply.code == 202, reply
        forget(Path(stick))
        os.truncate(image, 4 * MIB)
        jobs = rig.room.ledger.jobs
        await rig.until(lambda: "Input/output error" in jobs[reply.job].message, "the stick to be found dead")
        assert jobs[reply.job].state in (JobState.WAITING, JobState.DOWNLOADING)
        # Who names it now is told at once, and not that the agent is away.
        said = await rig.send("bundle.import", Origin.LOCAL, path=stick, instance="pump-2")
        assert (said.code, said.data["code"], "Input/output error" in said.msg) == (500, "bundle.unreadable", True)
        sound = await rig.send("bundle.import", Origin.LOCAL, path=str(path), instance="pump-3")
        assert (await rig.job(sound)).state is JobState.DONE
        await rig.send("job.cancel", Origin.LOCAL, job=reply.job)
        assert (await rig.ended(reply.job)).state is JobState.CANCELLED
    assert sorted(rig.room.ledger.desired) == ["pump-3"]
    assert not list((rig.root / "bundles").glob("*.part*"))


def forget(path: Path) -> None:
    """Have the kernel read the file from its medium again."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
