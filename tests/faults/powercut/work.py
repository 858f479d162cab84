"""A process that writes all that the agent keeps on disk, and says on stdout what was acknowledged to it.

``python -m tests.faults.powercut.work FOLDER SEED``. Lines: ``state N``, ``outbox N``, ``file N``, ``blob DIGEST``,
``doc DIGEST``, ``copy N``.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.domain.priority import Priority
from agent.errors import Failed
from agent.host.snapshots import VolumeSnapshots
from agent.ports import OutRecord
from agent.registry.blobs import BlobStore
from agent.registry.kept import Kept
from agent.store.outbox import SqliteOutbox
from agent.store.state import StateStore
from tests.faults.corruption import CAP_BYTES, change

ROUNDS = 6


def say(word: str, what: object) -> None:
    os.write(1, f"{word} {what}\n".encode())


def blob_of(number: int, seed: int) -> bytes:
    return random.Random(f"{seed}-{number}").randbytes(70_000)


def volume_of(number: int) -> bytes:
    return f"volume {number} ".encode() * 3000


class Work:
    """Each method does one acknowledged piece of work."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._seed = seed
        self._state = StateStore(folder / "state.db")
        self._outbox = SqliteOutbox(folder / "outbox.db", CAP_BYTES)
        self._blobs = BlobStore(folder / "blobs")
        self._kept = Kept(folder / "kept")
        self._copies = VolumeSnapshots(folder / "snapshots", reserve_bytes=0)
        self._volume = folder / "volume"

    async def run(self) -> None:
        """Open everything, work in a seeded order, close."""
        rng = random.Random(self._seed)
        await self._state.open()
        await self._outbox.open()
        await self._copies.load()
        kinds: list[Callable[[int], Awaitable[None]]] = [self.decide, self.decide, self.send, self.fetch, self.settle]
        for number in range(1, ROUNDS + 1):
            rng.shuffle(kinds)
            for kind in kinds:
                await kind(number * 10 + rng.randrange(2))
            if number % 3 == 1:  # its programs are slow under strace
                await self.copy(number)
        await self._outbox.close()
        await self._state.close()

    async def decide(self, number: int) -> None:
        await self._state.commit(change(number), number)
        say("state", number)

    async def settle(self, number: int) -> None:
        await self._state.commit(change(number + 5000), number)
        assert await self._state.settled()
        say("file", number + 5000)

    async def send(self, number: int) -> None:
        records = [OutRecord(Priority.NORMAL, "data", f"{number}-{n}".encode()) for n in range(3)]
        await self._outbox.append(records, "live", number)
        say("outbox", number)
        head = await self._outbox.head(1)
        if number % 20 < 10 and head:
            say("sent", head[0].payload.decode())
            await self._outbox.forget([head[0].row])

    async def copy(self, number: int) -> None:
        self._volume.mkdir(exist_ok=True)
        (self._volume / "data").write_bytes(volume_of(number))
        try:
            await self._copies.take("pump", f"key-{number}", {"data": str(self._volume)})
        except Failed:
            os.kill(os.getpid(), signal.SIGKILL)  # cp was killed: the power fails for all at once
        say("copy", number)

    async def fetch(self, number: int) -> None:
        data = blob_of(number, self._seed)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        await asyncio.to_thread(self._blobs.put, digest, io.BytesIO(data))
        say("blob", digest)
        say("doc", await asyncio.to_thread(self._kept.keep, b'{"n": %d}' % number))


if __name__ == "__main__":
    asyncio.run(Work(Path(sys.argv[1]), int(sys.argv[2])).run())
