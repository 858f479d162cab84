"""Copies of volumes: one suite on the fake and on real folders; then what only real files can show."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Protocol

import pytest

from agent.errors import Failed, NoSpace, NotFound
from agent.host.snapshots import VolumeSnapshots
from agent.ports import Snapshots
from tests.fakes.snapshots import FakeSnapshots


class Disk(Protocol):
    """Folders of volumes, and copies of them."""

    snapshots: Snapshots

    def write(self, volume: str, **files: str) -> str: ...
    def read(self, volume: str) -> dict[str, str]: ...


class FakeDisk:
    """In memory."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, str]] = {}
        self.snapshots: Snapshots = FakeSnapshots(self.files)

    def write(self, volume: str, **files: str) -> str:
        self.files[volume] = dict(files)
        return volume

    def read(self, volume: str) -> dict[str, str]:
        return self.files[volume]


class RealDisk:
    """Folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.snapshots: Snapshots = VolumeSnapshots(root / "snapshots", reserve_bytes=0, within_s=20)

    def write(self, volume: str, **files: str) -> str:
        folder = self.root / volume
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return str(folder)

    def read(self, volume: str) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.root / volume).iterdir()}


@pytest.fixture(params=["fake", "real"])
async def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    made: Disk = FakeDisk() if request.param == "fake" else RealDisk(tmp_path)
    await made.snapshots.load()
    return made


async def test_what_was_copied_comes_back_and_what_came_since_is_gone(disk: Disk) -> None:
    folders = {"data": disk.write("data", a="1", b="2"), "log": disk.write("log", x="y")}
    await disk.snapshots.reserve("pump", "k", folders)
    await disk.snapshots.take("pump", "k", folders)
    assert disk.snapshots.held("pump") == {("k", "data"), ("k", "log")}
    disk.write("data", a="spoilt", c="new")
    await disk.snapshots.restore("pump", "k", folders)
    await disk.snapshots.restore("pump", "k", folders)
    assert (disk.read("data"), disk.read("log")) == ({"a": "1", "b": "2"}, {"x": "y"})


async def test_a_copy_is_not_taken_again_over_what_is_held(disk: Disk) -> None:
    folders = {"data": disk.write("data", a="old")}
    await disk.snapshots.take("pump", "k", folders)
    disk.write("data", a="new")
    await disk.snapshots.take("pump", "k", folders)
    await disk.snapshots.restore("pump", "k", folders)
    assert disk.read("data") == {"a": "old"}


async def test_copies_of_others_and_of_other_keys_stay_when_one_is_dropped(disk: Disk) -> None:
    folders = {"data": disk.write("data", a="1")}
    for instance, key in (("pump", "k"), ("pump", "l"), ("other", "k")):
        await disk.snapshots.take(instance, key, folders)
    await disk.snapshots.drop("pump", "k")
    await disk.snapshots.drop("pump", "k")
    assert disk.snapshots.held("pump") == {("l", "data")}
    assert disk.snapshots.instances() == {"pump", "other"}
    with pytest.raises(NotFound) as caught:
        await disk.snapshots.restore("pump", "k", folders)
    assert caught.value.code == "snapshot.gone"


async def test_a_folder_that_is_not_there_fails_and_leaves_nothing_that_counts(disk: Disk) -> None:
    with pytest.raises(Failed):
        await disk.snapshots.take("pump", "k", {"data": "/nowhere/at/all"})
    assert disk.snapshots.held("pump") == frozenset()


@pytest.fixture
async def real(tmp_path: Path) -> RealDisk:
    made = RealDisk(tmp_path)
    await made.snapshots.load()
    return made


def look(folder: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """Type and mode, owner, group, links, and content or target of everything below a folder."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        seen[str(path.relative_to(folder))] = (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, content)
    return seen


async def test_modes_owners_links_holes_attributes_and_special_files_come_back(real: RealDisk) -> None:
    # Only root may give files away.
    owner, group = (1000, 1001) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    folder = Path(real.write("data", plain="text"))
    os.chown(folder, owner, group)
    folder.chmod(0o2770)
    os.chown(folder / "plain", owner, group)
    (folder / "plain").chmod(0o4711)
    os.link(folder / "plain", folder / "twin")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "s"))
    with (folder / "holes").open("wb") as file:
        file.truncate(64 << 20)
    os.setxattr(folder / "plain", "user.mark", b"kept")
    (folder / "empty").mkdir(mode=0o700)
    (folder / "-rf \n*").write_text("a name of a hostile kind")
    before = look(folder)
    folders = {"data": str(folder)}
    await real.snapshots.reserve("pump", "k", folders)
    await real.snapshots.take("pump", "k", folders)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (folder / "spoilt").write_text("by the new version")
    await real.snapshots.restore("pump", "k", folders)
    assert look(folder) == before
    assert os.getxattr(folder / "plain", "user.mark") == b"kept"
    assert (folder / "holes").stat().st_blocks * 512 < 1 << 20
    info = folder.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o2770, owner, group)
    assert Path("/etc/passwd").exists()


async def test_what_a_kill_left_half_made_is_cleared_and_does_not_count(real: RealDisk, tmp_path: Path) -> None:
    folders = {"data": real.write("data", a="1")}
    await real.snapshots.take("pump", "k", folders)
    root = tmp_path / "snapshots"
    for part in ("pump/l/.part-data", "pump/.part-m/data", "other/k/.part-data"):
        (root / part).mkdir(parents=True)
    again = VolumeSnapshots(root)
    await again.load()
    assert again.held("pump") == {("k", "data")}
    assert again.instances() == {"pump"}
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == [
        "pump",
        "pump/k",
        "pump/k/data",
        "pump/k/data/a",
    ]


async def test_no_room_is_said_before_anything_is_copied(real: RealDisk, tmp_path: Path) -> None:
    folders = {"data": real.write("data", a="1" * 100_000)}
    greedy = VolumeSnapshots(tmp_path / "snapshots", reserve_bytes=1 << 60)
    await greedy.load()
    with pytest.raises(NoSpace) as caught:
        await greedy.reserve("pump", "k", folders)
    assert caught.value.code == "snapshot.no_space"
    assert list((tmp_path / "snapshots").iterdir()) == []
