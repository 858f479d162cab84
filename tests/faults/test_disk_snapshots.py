"""Copies of volumes on a small disk that is full, goes read-only or is spoilt by hand: said in words, nothing half-made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import Failed, NoSpace
from agent.host.snapshots import VolumeSnapshots
from tests.faults import loopfs

MIB = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    image = tmp_path / "image"
    loopfs.make(image, "ext4-4k")
    with loopfs.mounted(image, tmp_path / "disk", "ext4-4k") as at:
        yield at


@pytest.fixture
async def copies(disk: Path) -> VolumeSnapshots:
    made = VolumeSnapshots(disk / "snapshots", reserve_bytes=0, within_s=20)
    await made.load()
    return made


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        (folder / f"part-{number}").write_bytes(bytes([number]) * MIB)
    return {"data": str(folder)}


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("leave_kib", [0, 4, 16, 96, 2048])
async def test_a_disk_that_fills_up_while_copying_is_no_space_and_leaves_nothing(
    disk: Path, copies: VolumeSnapshots, data: dict[str, str], leave_kib: int
) -> None:
    ballast = loopfs.fill(disk, leave_kib * 1024)
    with pytest.raises(NoSpace) as caught:
        await copies.take("pump", "k", data)
    assert (caught.value.code, caught.value.retryable) == ("snapshot.no_space", True)
    assert (copies.held("pump"), below(disk / "snapshots")) == (frozenset(), [])
    ballast.unlink()
    await copies.take("pump", "k", data)
    assert below(disk / "snapshots/pump/k/data") == below(Path(data["data"]))


async def test_a_disk_that_went_read_only_fails_in_words_and_what_was_held_is_held(
    disk: Path, copies: VolumeSnapshots, data: dict[str, str]
) -> None:
    await copies.take("pump", "k", data)
    loopfs.run("mount", "-o", "remount,ro", str(disk))
    for doing in (copies.take("pump", "l", data), copies.drop("pump", "k")):
        with pytest.raises(Failed, match="Read-only file system"):
            await doing
    assert copies.held("pump") == {("k", "data")}
    loopfs.run("mount", "-o", "remount,rw", str(disk))
    await copies.drop("pump", "k")
    assert (copies.instances(), list((disk / "snapshots").iterdir())) == (frozenset(), [])


async def test_what_stands_in_a_copys_place_fails_it_in_words(
    disk: Path, copies: VolumeSnapshots, data: dict[str, str]
) -> None:
    (disk / "snapshots/pump/k/data/strange").mkdir(parents=True)
    with pytest.raises(Failed, match="Directory not empty"):
        await copies.take("pump", "k", data)
    assert copies.held("pump") == frozenset()
    assert not (disk / "snapshots/pump/k/.part-data").exists()


async def test_half_a_copy_that_could_not_be_cleared_away_is_no_part_of_the_next(
    disk: Path, copies: VolumeSnapshots, data: dict[str, str]
) -> None:
    for left in ("pump/k/.part-data", "pump/.part-k/data"):
        (disk / "snapshots" / left).mkdir(parents=True)
        (disk / "snapshots" / left / "stale").write_text("of an earlier try")
    await copies.take("pump", "k", data)
    assert below(disk / "snapshots/pump/k") == [f"data/part-{number}" for number in range(4)]
    await copies.drop("pump", "k")
    assert list((disk / "snapshots").iterdir()) == []


async def test_a_folder_of_copies_that_somebody_removed_is_said_in_words(
    disk: Path, copies: VolumeSnapshots, data: dict[str, str]
) -> None:
    shutil.rmtree(disk / "snapshots")
    with pytest.raises(Failed, match="No such file"):
        await copies.reserve("pump", "k", data)
    await copies.drop("pump", "k")
    await copies.take("pump", "k", data)
    assert copies.held("pump") == {("k", "data")}
