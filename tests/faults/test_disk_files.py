"""An APP's configs and secrets on a disk that is full: no space is said, nothing half-made stays, and room mends it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.domain.container import PlacedFile
from agent.errors import NoSpace
from agent.store.shelf import DiskShelf
from tests.faults import loopfs


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    image = tmp_path / "image"
    loopfs.make(image, "ext4-4k")
    with loopfs.mounted(image, tmp_path / "disk", "ext4-4k") as at:
        yield at


@pytest.mark.parametrize("leave_kib", [0, 4, 16, 96])
async def test_a_full_disk_is_no_space_and_leaves_no_part_of_a_file(disk: Path, leave_kib: int) -> None:
    shelf = DiskShelf(disk / "files")
    owner = (os.geteuid(), os.getegid())
    old, new = (
        PlacedFile(str(shelf.folder("guard") / seal / "app"), seal * 100_000, 0o400, *owner) for seal in ("s1", "s2")
    )
    await shelf.put("guard", [old], tidy=True)
    ballast = loopfs.fill(disk, leave_kib * 1024)
    with pytest.raises(NoSpace, match="the files of guard cannot be written: No space left") as caught:
        await shelf.put("guard", [new], tidy=True)
    assert (caught.value.code, caught.value.retryable) == ("app.files", True)
    assert [path for path in shelf.folder("guard").rglob("*") if path.is_file()] == [Path(old.path)]
    ballast.unlink()
    await shelf.put("guard", [new], tidy=True)
    assert Path(new.path).read_text() == new.content
    assert [path for path in shelf.folder("guard").rglob("*") if path.is_file()] == [Path(new.path)]
