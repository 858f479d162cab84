"""kill -9 at a random moment: whatever was acknowledged is there, in order, under the same numbers."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from agent.ports import Stored
from agent.store.outbox import SqliteOutbox

KILLS = 6
ROOT = Path(__file__).parents[2]


async def run_until_killed(path: Path, first: int, life_s: float) -> list[str]:
    """The child's words."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.outbox_child", str(path), str(first),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    said = [await asyncio.wait_for(child.stdout.readline(), 30)]
    reading = asyncio.create_task(child.stdout.read())
    await asyncio.sleep(life_s)
    child.kill()
    await child.wait()
    text = (b"".join(said) + await reading).decode()
    return text.split("\n")[:-1]


async def read_all(path: Path) -> list[Stored]:
    store = SqliteOutbox(path, 1_000_000_000)
    await store.open()
    try:
        return await store.head(1_000_000)
    finally:
        await store.close()


async def test_nothing_acknowledged_is_lost_by_killing_the_process(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    acknowledged: set[str] = set()
    perhaps_gone: set[str] = set()
    sessions: set[str] = set()
    for kill in range(KILLS):
        said = await run_until_killed(path, kill * 1_000_000, random.uniform(0.05, 0.5))
        acknowledged |= {line[2:] for line in said if line.startswith("+")}
        perhaps_gone |= {line[2:] for line in said if line.startswith("-")}
        stored = await read_all(path)
        there = {each.payload.decode() for each in stored}
        assert len(there) == len(stored), "nothing twice"
        assert acknowledged - perhaps_gone <= there
        sessions |= {each.session for each in stored}
        for priority in {each.priority for each in stored}:
            seqs = [each.seq for each in stored if each.priority is priority]
            assert seqs == sorted(seqs), "order is kept"
            gone = set(range(1, seqs[-1] + 1)) - set(seqs)
            assert len(gone) <= len(perhaps_gone), "a number is missing only where a record was forgotten"
    assert len(sessions) == 1
    assert len(acknowledged) > 100
