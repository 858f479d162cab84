"""Configs and secrets on disk: whole or not at all, with their rights, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.domain.container import PlacedFile
from agent.errors import Failed
from agent.store.shelf import DiskShelf


@pytest.fixture
def shelf(tmp_path: Path) -> DiskShelf:
    return DiskShelf(tmp_path / "files")


def placed(shelf: DiskShelf, content: str, seal: str = "s1", mode: int = 0o444) -> PlacedFile:
    me = (os.geteuid(), os.getegid())
    return PlacedFile(str(shelf.folder("guard") / seal / "app"), content, mode, *me)


def names(shelf: DiskShelf) -> set[str]:
    return {str(each.relative_to(shelf.folder("guard"))) for each in shelf.folder("guard").rglob("*") if each.is_file()}


async def test_a_file_is_written_with_its_rights_in_a_folder_that_nobody_else_enters(shelf: DiskShelf) -> None:
    file = placed(shelf, "a=1\n", mode=0o440)
    await shelf.put("guard", [file], tidy=True)
    path = Path(file.path)
    assert path.read_text() == "a=1\n"
    assert path.stat().st_mode & 0o777 == 0o440
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert names(shelf) == {"s1/app"}


async def test_on_trial_the_old_files_stay_and_go_with_the_verdict(shelf: DiskShelf) -> None:
    old, new = placed(shelf, "old", "s1"), placed(shelf, "new", "s2")
    await shelf.put("guard", [old], tidy=True)
    await shelf.put("guard", [new], tidy=False)
    assert names(shelf) == {"s1/app", "s2/app"}
    await shelf.put("guard", [new], tidy=True)
    assert names(shelf) == {"s2/app"}
    await shelf.put("guard", [], tidy=True)
    assert not shelf.folder("guard").exists()


async def test_what_is_there_is_not_written_again(shelf: DiskShelf) -> None:
    file = placed(shelf, "same")
    await shelf.put("guard", [file], tidy=True)
    before = Path(file.path).stat().st_ino
    await shelf.put("guard", [file], tidy=True)
    assert Path(file.path).stat().st_ino == before


@pytest.mark.parametrize("damage", ["gone", "short", "open"])
async def test_what_somebody_damaged_is_mended(shelf: DiskShelf, damage: str) -> None:
    file = placed(shelf, "content")
    await shelf.put("guard", [file], tidy=True)
    path = Path(file.path)
    if damage == "gone":
        path.unlink()
    elif damage == "short":
        path.chmod(0o600)
        path.write_text("c")
    else:
        path.chmod(0o666)
    await shelf.put("guard", [file], tidy=True)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("content", 0o444)


async def test_what_a_kill_left_half_written_does_not_stay(shelf: DiskShelf) -> None:
    file = placed(shelf, "content")
    path = Path(file.path)
    path.parent.mkdir(parents=True)
    (path.parent / ".app.partial").write_text("con")
    await shelf.put("guard", [file], tidy=True)
    assert names(shelf) == {"s1/app"}


async def test_removal_leaves_nothing_and_may_come_twice(shelf: DiskShelf) -> None:
    await shelf.put("guard", [placed(shelf, "x")], tidy=True)
    await shelf.clear("guard")
    await shelf.clear("guard")
    assert not shelf.folder("guard").exists()


async def test_a_disk_that_refuses_is_said_in_words(shelf: DiskShelf, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(Failed) as caught:
        await shelf.put("guard", [placed(shelf, "x")], tidy=True)
    assert caught.value.code == "app.files"
    assert "the files of guard cannot be written" in caught.value.message


async def test_a_link_where_a_file_is_being_written_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("not ours")
    shelf = DiskShelf(tmp_path / "files")
    file = placed(shelf, "x" * 10)
    partial = Path(file.path).with_name(".app.partial")
    partial.parent.mkdir(parents=True)
    partial.symlink_to(other)
    await shelf.put("guard", [file], tidy=True)
    assert Path(file.path).read_text() == "x" * 10
    assert other.read_text() == "not ours"
