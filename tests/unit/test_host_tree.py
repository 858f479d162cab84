"""What a folder takes on disk, however it is made up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from agent.domain.usage import MOST_DEPTH
from agent.host.tree import measure

KIB = 1024


def fill(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_agrees_with_du(tmp_path: Path) -> None:
    fill(tmp_path / "a", 100 * KIB)
    fill(tmp_path / "d/e/f/b", 300 * KIB)
    os.link(tmp_path / "a", tmp_path / "d/a2")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    said = int(subprocess.run(["du", "-sx", "-B1", tmp_path], capture_output=True, check=True).stdout.split()[0])
    found = measure(str(tmp_path))
    assert found.complete
    assert found.bytes == said
    assert 400 * KIB <= found.bytes < 500 * KIB


def test_no_link_is_followed(tmp_path: Path) -> None:
    fill(tmp_path / "big/file", 500 * KIB)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/link").symlink_to(tmp_path / "big")
    (tmp_path / "door").symlink_to(tmp_path / "big")
    assert measure(str(tmp_path / "app")).bytes < 20 * KIB
    assert measure(str(tmp_path / "door")).bytes == 0


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert measure(str(tmp_path / "gone")) == measure(str(fill(tmp_path / "file", KIB)))
    assert measure(str(tmp_path / "gone")).bytes == 0


def test_more_than_can_be_counted_is_said(tmp_path: Path) -> None:
    for number in range(30):
        fill(tmp_path / f"f{number}", KIB)
    assert measure(str(tmp_path), most=30, pause=lambda _: None).complete is False
    assert measure(str(tmp_path), most=31, pause=lambda _: None).complete is True


def test_a_tree_without_a_bottom_ends_and_leaks_no_file(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(MOST_DEPTH + 20):
        # By hand, for the path is longer than a path may be.
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    before = open_files()
    assert measure(str(tmp_path)).complete is False
    assert open_files() == before


def test_many_entries_are_counted_with_pauses(tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / f"f{number}").touch()
    pauses: list[float] = []
    measure(str(tmp_path), pause=pauses.append)
    assert len(pauses) == 2
