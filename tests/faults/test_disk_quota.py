"""Hard limits on folders of a real XFS: numbers are inherited, and the limit holds where the kernel keeps quotas."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.host.quota import cap, mark, project_of, read_project

MIB = 1024**2
MakeDisk = Callable[[str], Path]


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes XFS images and mounts them with the given options; OSError where this kernel refuses them."""
    made: list[Path] = []

    def make(options: str) -> Path:
        name = options.replace(",", "-")
        image, at = tmp_path / f"{name}.img", tmp_path / name
        at.mkdir()
        with image.open("wb") as file:
            file.truncate(320 * MIB)
        subprocess.run(["mkfs.xfs", "-q", image], check=True, timeout=60)
        done = subprocess.run(["mount", "-o", f"loop,{options}", image, at], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise OSError(errno.EINVAL, done.stderr)
        made.append(at)
        return at

    yield make
    for at in made:
        subprocess.run(["umount", at], check=True, timeout=60)


def test_all_that_is_in_a_folder_and_comes_into_it_has_the_projects_number(xfs: MakeDisk) -> None:
    volume = xfs("noatime") / "volume"
    (volume / "old/deep").mkdir(parents=True)
    (volume / "old/file").write_bytes(b"x")
    (volume / "link").symlink_to("/etc/hostname")
    os.mkfifo(volume / "pipe")
    mark(str(volume), project_of("pump"))
    (volume / "new").mkdir()
    (volume / "old/deep/new").write_bytes(b"x")
    for name in (".", "old", "old/deep", "old/file", "new", "old/deep/new"):
        assert read_project(str(volume / name)) == project_of("pump"), name
    assert read_project(str(volume.parent)) == 0


def write_out(path: Path, mib: int) -> None:
    with path.open("wb", buffering=0) as file:
        for _ in range(mib):
            file.write(b"x" * MIB)


def test_a_kernel_that_keeps_quotas_stops_the_folder_at_its_limit_and_another_says_that_it_does_not(
    xfs: MakeDisk,
) -> None:
    try:
        volume = xfs("pquota") / "volume"
    except OSError:
        # This kernel has no quotas for XFS: the limit is then measured, and said to be so.
        volume = xfs("noatime") / "volume"
        volume.mkdir()
        assert cap("pump", [str(volume)], 20 * MIB) is False
        return
    volume.mkdir()
    (volume / "before").write_bytes(b"x" * 8 * MIB)
    assert cap("pump", [str(volume)], 20 * MIB) is True
    with pytest.raises(OSError, match=r"[Qq]uota|space"):
        write_out(volume / "more", 20)
    used = sum(each.stat().st_size for each in volume.iterdir())
    assert 18 * MIB <= used <= 20 * MIB
