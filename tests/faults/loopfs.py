"""File systems in files: made, mounted through a loop device, copied as a power cut leaves them, filled to the brim."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kind:
    """How a file system is made and mounted."""

    make: tuple[str, ...]
    options: str
    mib: int

    @property
    def type(self) -> str:
        """The kernel's name for it."""
        return self.make[0].removeprefix("mkfs.")


KINDS = {
    "ext4": Kind(("mkfs.ext4", "-q", "-F", "-b", "4096"), "", 24),
    # By default ext4 hides a missing fsync before a rename; this option shows it.
    "ext4-noalloc": Kind(("mkfs.ext4", "-q", "-F", "-b", "4096"), ",noauto_da_alloc", 24),
    "xfs": Kind(("mkfs.xfs", "-q", "-f"), ",nouuid", 320),
    "host-ext4": Kind(("mkfs.ext4", "-q", "-F", "-b", "4096"), "", 600),
    "host-ext4-noalloc": Kind(("mkfs.ext4", "-q", "-F", "-b", "4096"), ",noauto_da_alloc", 600),
    "host-xfs": Kind(("mkfs.xfs", "-q", "-f"), ",nouuid", 600),
    "ext4-1k": Kind(("mkfs.ext4", "-q", "-F", "-b", "1024"), "", 16),
    "ext4-4k": Kind(("mkfs.ext4", "-q", "-F", "-b", "4096"), "", 16),
}


def make(image: Path, kind: str) -> None:
    """An empty file system of a kind in `image`."""
    if os.geteuid() != 0:
        raise PermissionError("loop devices need root: these tests do not pass by being skipped")
    with image.open("wb") as file:
        file.truncate(KINDS[kind].mib * 1024 * 1024)
    run(*KINDS[kind].make, str(image))


def copy(image: Path, to: Path) -> None:
    """The bytes of a backing file at one moment: of a mounted one, what its block device has been given."""
    for _ in range(20):
        before = image.stat().st_mtime_ns
        run("cp", "--sparse=always", str(image), str(to))
        if image.stat().st_mtime_ns == before:
            return  # nothing was written meanwhile: no copy of two moments
    raise RuntimeError(f"{image} is written to without a pause")


@contextlib.contextmanager
def mounted(image: Path, at: Path, kind: str) -> Iterator[Path]:
    """Mount `image` at `at` until the end of the block."""
    at.mkdir(exist_ok=True)
    mount = ("mount", "-t", KINDS[kind].type, "-o", f"loop{KINDS[kind].options}", str(image), str(at))
    run(*mount)
    try:
        yield at
    finally:
        unmount(at)


def unmount(at: Path, within_s: float = 10.0) -> None:
    """Take a file system off. A process that another thread has just forked holds its files until it runs its program."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            run("umount", str(at))
            return
        except RuntimeError as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Take all space but `leave_bytes`; the file that holds it."""
    ballast, left = folder / "ballast", folder / "left"
    if leave_bytes:
        left.write_bytes(b"x" * leave_bytes)
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        for size in (65536, 1024):
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, b"x" * size)
    os.fsync(descriptor)
    os.close(descriptor)
    left.unlink(missing_ok=True)
    os.sync()
    return ballast


def run(*argv: str) -> None:
    """A program that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
