"""The state file under kill -9 and on a full disk: nothing answered is lost, and what could not be written says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.domain.app import Desired, Wanted
from agent.domain.command import Origin
from agent.domain.journal import Change
from agent.errors import NoSpace
from agent.store.state import StateStore

WRITER = """
import asyncio, sys
from pathlib import Path
from agent.domain.app import Desired, Wanted
from agent.domain.command import Origin
from agent.domain.journal import Change
from agent.store.state import StateStore

async def main():
    store = StateStore(Path(sys.argv[1]))
    await store.open()
    async def one(n):
        await store.commit(Change(desired=(Desired(f"app-{n}", Origin.CLOUD, Wanted.RUNNING),)), n)
        print(n, flush=True)
    n = 0
    while True:
        await asyncio.gather(*(one(n + i) for i in range(7)))
        n += 7

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 20, 150])
async def test_killed_at_any_moment_every_answered_change_is_there(tmp_path: Path, after: int) -> None:
    path = tmp_path / "state.db"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = [int(child.stdout.readline()) for _ in range(after)]
    os.kill(child.pid, signal.SIGKILL)
    answered += [int(line) for line in child.stdout if line.strip().isdigit()]
    child.wait(10)
    child.stdout.close()
    store = StateStore(path)
    await store.open()
    kept = {d.name for d in (await store.load()).desired}
    await store.close()
    assert {f"app-{n}" for n in answered} <= kept


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 1024)
    os.close(descriptor)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 8 MB in a file."""
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(8 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "1024", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


async def test_on_a_full_disk_a_change_is_refused_and_nothing_is_damaged(small_disk: Path) -> None:
    store = StateStore(small_disk / "state.db")
    await store.open()
    await store.commit(Change(desired=(Desired("first", Origin.CLOUD, Wanted.RUNNING),)), 1)
    ballast = small_disk / "ballast"

    await asyncio.to_thread(fill, ballast)
    kept = {"first"}

    async def write_until_refused() -> None:
        for n in range(20_000):
            await store.commit(Change(desired=(Desired(f"app-{n}", Origin.CLOUD, Wanted.RUNNING),)), n)
            kept.add(f"app-{n}")

    with pytest.raises(NoSpace, match="no space left"):
        await write_until_refused()
    ballast.unlink()
    await store.commit(Change(desired=(Desired("last", Origin.CLOUD, Wanted.RUNNING),)), 2)
    await store.close()
    again = StateStore(small_disk / "state.db")
    await again.open()
    assert {d.name for d in (await again.load()).desired} == kept | {"last"}
    await again.close()
    with sqlite3.connect(small_disk / "state.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
