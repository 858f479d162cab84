"""The gateway's state on disk: what was commanded, what is desired, what was done, which alarms stand.

One transaction per decision: a command, its reply and all it changes are committed together or not at all.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from agent.domain.alarm import Alarm
from agent.domain.command import Reply
from agent.domain.journal import Change, JournaledStep, Snapshot
from agent.store.damage import Mended
from agent.store.database import Database
from agent.store.rebuild import StateKeeper
from agent.store.rows import MIGRATIONS, read_snapshot, write_change

KEEP_COMMANDS = 10_000
KEEP_COMMANDS_MS = 7 * 86_400_000
KEEP_STEPS = 5_000


class StateStore:
    """``state.db``. Every method returns after its commit; NoSpace or Failed mean nothing was changed."""

    def __init__(self, path: Path) -> None:
        self._keeper = StateKeeper(path.parent)
        self._db = Database(path, MIGRATIONS, self._keeper)

    async def open(self) -> None:
        """Open or make the file. A damaged one is set aside and made anew from the files beside it; `mended` says so."""
        await self._db.open()

    async def close(self) -> None:
        """Finish what waits, then close."""
        await self._db.close()
        await asyncio.to_thread(self._keeper.close)

    @property
    def mended(self) -> list[Mended]:
        """The times the file was made anew since it was opened."""
        return self._db.mended

    def on_mended(self, listener: Callable[[Mended], None]) -> None:
        """Have `listener` called, in the loop, when the file is made anew while the agent runs."""
        self._db.on_mended.append(listener)

    async def settled(self, timeout_s: float = 10.0) -> bool:
        """Wait until the files beside the database say what it says; False when the disk did not allow it in time."""
        return await asyncio.to_thread(self._keeper.mirror.settled, timeout_s)

    async def load(self) -> Snapshot:
        """All state, newest job last."""
        return await self._db.read(read_snapshot)

    async def commit(self, change: Change, now_ms: int) -> None:
        """Write one decision."""
        numbered = self._keeper.number(change)
        await self._db.run(lambda connection: write_change(connection, numbered(), now_ms), self._keeper.note)

    async def reply_to(self, command_id: str) -> Reply | None:
        """The reply to a command seen before."""

        def find(connection: sqlite3.Connection) -> Reply | None:
            row = connection.execute("SELECT reply FROM commands WHERE id=?", (command_id,)).fetchone()
            return msgspec.json.decode(row[0], type=Reply) if row else None

        return await self._db.read(find)

    async def mark_told(self, job_id: str, updated_ms: int) -> None:
        """The job's state as of `updated_ms` is in the outbox."""
        sql = "UPDATE jobs SET told=1 WHERE id=? AND updated_ms=?"
        await self._db.run(lambda c: c.execute(sql, (job_id, updated_ms)).rowcount)

    async def begin_step(self, instance: str, step: str, now_ms: int) -> int:
        """Journal a step before it runs; returns its number."""
        sql = "INSERT INTO steps(at_ms, instance, step) VALUES(?,?,?)"
        return await self._db.run(lambda connection: connection.execute(sql, (now_ms, instance, step)).lastrowid or 0)

    async def end_step(self, number: int, ended: str) -> None:
        """Journal how the step ended: ``done`` or an error."""
        await self._db.run(lambda c: c.execute("UPDATE steps SET ended=? WHERE id=?", (ended, number)))

    async def steps(self, instance: str, from_ms: int, to_ms: int, limit: int = 200) -> list[JournaledStep]:
        """The last steps of an instance that began between two times, oldest first."""
        sql = "SELECT at_ms, step, ended FROM steps WHERE instance=? AND at_ms BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"
        rows = await self._db.read(lambda c: c.execute(sql, (instance, from_ms, to_ms, limit)).fetchall())
        return [JournaledStep(*row) for row in reversed(rows)]

    async def save_alarm(self, alarm: Alarm) -> None:
        """Write an alarm; a cleared one is forgotten."""

        def save(connection: sqlite3.Connection) -> None:
            if alarm.active:
                body = msgspec.json.encode(alarm)
                connection.execute("INSERT OR REPLACE INTO alarms VALUES(?,?)", (alarm.key, body))
            else:
                connection.execute("DELETE FROM alarms WHERE key=?", (alarm.key,))

        await self._db.run(save, lambda _: self._keeper.note_alarm(alarm))

    async def load_alarms(self) -> list[Alarm]:
        """The alarms that stand."""
        rows = await self._db.read(lambda c: c.execute("SELECT body FROM alarms").fetchall())
        return [msgspec.json.decode(row[0], type=Alarm) for row in rows]

    async def save_site(self, files: Mapping[str, bytes]) -> None:
        """Keep the site files that hold now, in place of those kept before."""

        def save(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM site")
            connection.executemany("INSERT INTO site VALUES(?,?)", list(files.items()))

        await self._db.run(save, lambda _: self._keeper.note_site(files))

    async def load_site(self) -> dict[str, bytes]:
        """The site files that held when they were last kept, by path."""
        rows = await self._db.read(lambda c: c.execute("SELECT path, content FROM site").fetchall())
        return {str(path): bytes(content) for path, content in rows}

    async def trim(self, now_ms: int) -> None:
        """Forget old commands and steps beyond what the contract keeps; jobs and releases go when the ledger says so."""
        await self._db.run(lambda connection: _trim(connection, now_ms))


def _trim(c: sqlite3.Connection, now_ms: int) -> None:
    c.execute(
        """DELETE FROM commands WHERE received_ms < ? AND id IN
           (SELECT id FROM commands ORDER BY received_ms DESC LIMIT -1 OFFSET ?)""",
        (now_ms - KEEP_COMMANDS_MS, KEEP_COMMANDS),
    )
    c.execute("DELETE FROM steps WHERE id <= (SELECT max(id) FROM steps) - ?", (KEEP_STEPS,))
