"""Archives that are saved where something is in the way: no folder, no room, another save, what a kill left."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent.errors import Failed, NoSpace
from tests.contract.engine.images.shelves import RealShelf
from tests.faults import loopfs


async def test_an_archive_that_cannot_be_written_is_a_failure_for_good_and_leaves_no_file(
    real: RealShelf, tmp_path: Path
) -> None:
    ref = await real.add("carried:2")
    with pytest.raises(Failed, match=r"cannot write .*/none/a\.tar: No such file or directory") as caught:
        await real.images.save([ref], str(tmp_path / "none" / "a.tar"))
    assert not caught.value.retryable
    assert list(tmp_path.iterdir()) == []


@pytest.mark.may_block  # the test mounts the file system itself
async def test_an_archive_for_which_there_is_no_room_says_so_and_leaves_no_file(
    real: RealShelf, tmp_path: Path
) -> None:
    ref = await real.add("carried:3")
    loopfs.make(tmp_path / "image", "ext4-4k")
    with loopfs.mounted(tmp_path / "image", tmp_path / "media", "ext4-4k") as media:
        with contextlib.suppress(OSError), (media / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        with pytest.raises(NoSpace, match=r"cannot write .*/a\.tar: No space left on device"):
            await real.images.save([ref], str(media / "a.tar"))
        assert {each.name for each in media.iterdir()} - {"lost+found"} == {"filler"}


async def test_two_archives_written_to_one_place_at_a_time_are_both_whole_and_what_a_kill_left_goes(
    real: RealShelf, tmp_path: Path
) -> None:
    ref = await real.add("carried:4")
    path = tmp_path / "a.tar"
    (tmp_path / "a.tar.0123abcd.ec.part").write_bytes(b"half an archive")
    sizes = await asyncio.gather(*(real.images.save([ref], str(path)) for _ in range(3)))
    assert set(sizes) == {path.stat().st_size}
    assert list(tmp_path.iterdir()) == [path]
    assert await real.images.load(str(path)) == [ref]
