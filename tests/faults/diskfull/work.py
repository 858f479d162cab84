"""A process that keeps working while its disk is filled, told by lines on stdin: ``try N``, ``look SECONDS``, ``end``.

Says after each line, as one JSON object, which pieces of work were acknowledged and which refused, by error code; and
what it can read.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

from agent.domain.priority import Priority
from agent.errors import GatewayError
from agent.ports import OutRecord
from agent.registry.blobs import BlobStore
from agent.store.outbox import SqliteOutbox
from agent.store.state import StateStore
from tests.faults.corruption import CAP_BYTES, change


class Work:
    """Numbers go on from one ``try`` to the next."""

    def __init__(self, folder: Path) -> None:
        self._state = StateStore(folder / "state.db")
        self._outbox = SqliteOutbox(folder / "outbox.db", CAP_BYTES)
        self._blobs = BlobStore(folder / "blobs")
        self._files = folder / "instances"
        self._number = 0

    async def run(self) -> None:
        """Open, then one line after the other."""
        try:
            await self._state.open()
            await self._outbox.open()
        except GatewayError as error:
            answer(refused_to_open=error.code)
            return
        answer(open=True, mended=[str(m) for m in (*self._state.mended, *self._outbox.mended)])
        found = await self._state.load()
        self._number = max((int(d.name[4:]) for d in found.desired), default=0)
        while True:
            line = (await asyncio.to_thread(sys.stdin.readline)).split()
            if not line or line[0] == "end":
                break
            answer(**(await self._try(int(line[1])) if line[0] == "try" else await self._look(float(line[1]))))
        await self._outbox.close()
        await self._state.close()
        answer(closed=True)

    async def _try(self, rounds: int) -> dict[str, Any]:
        done: dict[str, list[str]] = {"state": [], "outbox": [], "blob": []}
        refused: list[str] = []
        for _ in range(rounds):
            self._number += 1
            for kind, begin in (("state", self._decide), ("outbox", self._send), ("blob", self._fetch)):
                try:
                    done[kind].append(await begin(self._number))
                except GatewayError as error:
                    refused.append(error.code)
        return {"done": done, "refused": refused}

    async def _decide(self, number: int) -> str:
        await self._state.commit(change(number), number)
        return f"app-{number}"

    async def _send(self, number: int) -> str:
        await self._outbox.append([OutRecord(Priority.NORMAL, "data", f"{number}".encode())], "live", number)
        return f"{number}"

    async def _fetch(self, number: int) -> str:
        data = random.Random(number).randbytes(3000)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        await asyncio.to_thread(self._blobs.put, digest, io.BytesIO(data))
        return digest

    async def _look(self, patience_s: float) -> dict[str, Any]:
        settled = await self._state.settled(patience_s)
        blobs = {p.name for p in self._blobs.folder.glob("*")} if self._blobs.folder.exists() else set()
        return {
            "state": sorted(d.name for d in (await self._state.load()).desired),
            "outbox": sorted(r.payload.decode() for r in await self._outbox.head(100_000)),
            "blob": sorted(f"sha256:{name}" for name in blobs if not name.endswith(".part")),
            "settled": settled,
            "files": sorted(p.stem for p in self._files.glob("*.json")),
            "mended": [str(m) for m in (*self._state.mended, *self._outbox.mended)],
        }


def answer(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    asyncio.run(Work(Path(sys.argv[1])).run())
