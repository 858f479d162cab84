"""Hard limits on folders: found where they are switched on, and no error where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.host.quota import Mounted, cap, find_quotas, mark, project_of

MIB = 1024**2
MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
/dev/sda2 /var/lib/docker xfs rw,relatime,attr2,prjquota 0 0
/dev/sda3 /var/lib/docker/volumes/x xfs rw,relatime,noquota 0 0
tmpfs /run tmpfs rw,prjquota 0 0
/dev/sda4 /srv\\040data ext4 rw,prjquota 0 0
"""


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/etc", None),
        ("/var/lib/docker", Mounted("/dev/sda2", "/var/lib/docker")),
        ("/var/lib/docker/volumes/y/_data", Mounted("/dev/sda2", "/var/lib/docker")),
        ("/var/lib/dockers", None),
        ("/var/lib/docker/volumes/x/_data", None),
        ("/run/x", None),
        ("/srv data/x", Mounted("/dev/sda4", "/srv data")),
    ],
)
def test_the_file_system_of_a_folder_is_the_nearest_mount(tmp_path: Path, folder: str, found: Mounted | None) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert find_quotas(folder, tmp_path / "mounts") == found


def test_an_instance_has_the_same_project_for_ever_and_others_have_others() -> None:
    numbers = {project_of(f"app-{n}") for n in range(1000)}
    assert project_of("app-1") in numbers
    assert len(numbers) == 1000
    assert all(0x40000000 <= number < 0x80000000 for number in numbers)


def test_a_file_system_without_quotas_is_no_error(tmp_path: Path) -> None:
    assert cap("pump", [str(tmp_path)], MIB) is False
    assert cap("pump", [], MIB) is False


def test_a_stick_whose_name_is_in_another_encoding_hides_no_quotas(tmp_path: Path) -> None:
    stick = b"/dev/sdb1 /media/\xb9\xe3\xd6\xdd vfat rw 0 0\n"
    (tmp_path / "mounts").write_bytes(stick + MOUNTS.encode())
    assert find_quotas("/var/lib/docker", tmp_path / "mounts") == Mounted("/dev/sda2", "/var/lib/docker")


def test_a_file_system_that_refuses_the_number_keeps_no_folder_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(8):
        with pytest.raises(OSError, match=r"ioctl|supported|allowed"):
            mark(f"/proc/{os.getpid()}", project_of("pump"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
