"""A process that fills and drains an outbox until it is killed, and says on stdout what was acknowledged to it.

Lines: ``+ <note>`` a record's commit was acknowledged; ``- <note>`` its deletion is about to be asked for.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from agent.data.outbox import Outbox
from agent.domain.priority import Priority
from agent.host.clock import SystemClock
from agent.ports import OutRecord
from agent.store.outbox import SqliteOutbox


def say(word: str, note: str) -> None:
    os.write(1, f"{word} {note}\n".encode())


async def fill(outbox: Outbox, priority: Priority, notes: itertools.count[int]) -> None:
    while True:
        note = str(next(notes))
        await outbox.add(OutRecord(priority, "event", note.encode()))
        say("+", note)


async def drain(store: SqliteOutbox) -> None:
    while True:
        head = await store.head(20)
        for stored in head[::3]:
            say("-", stored.payload.decode())
        await store.forget([stored.row for stored in head[::3]])
        await asyncio.sleep(0.002)


async def main(path: Path, first: int) -> None:
    store = SqliteOutbox(path, 1_000_000_000)
    await store.open()
    outbox = Outbox(store, SystemClock(0))
    notes = itertools.count(first)
    workers = [fill(outbox, priority, notes) for priority in Priority for _ in range(4)]
    await asyncio.gather(drain(store), *workers)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
