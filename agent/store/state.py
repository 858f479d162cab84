"""The gateway's state on disk: what was commanded, what is desired, what was done, which alarms stand.

One transaction per decision: a command, its reply and all it changes are committed together or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.domain.alarm import Alarm
from agent.domain.app import Desired
from agent.domain.command import Job, Reply
from agent.domain.journal import Change, JournaledStep, Snapshot, StoredRelease, StoredRule
from agent.store.database import Database

MIGRATIONS = (
    """
    CREATE TABLE commands(id TEXT PRIMARY KEY, type TEXT NOT NULL, origin TEXT NOT NULL, who TEXT NOT NULL,
                          received_ms INTEGER NOT NULL, reply BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX commands_by_age ON commands(received_ms);
    CREATE TABLE desired(name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE releases(hash TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE jobs(id TEXT PRIMARY KEY, updated_ms INTEGER NOT NULL, final INTEGER NOT NULL,
                      told INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE steps(id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, instance TEXT NOT NULL, step TEXT NOT NULL,
                       ended TEXT NOT NULL DEFAULT '');
    CREATE TABLE alarms(key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE rules(name TEXT PRIMARY KEY, origin TEXT NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE site(path TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    # One version to go back to (`previous`) became several (`history`).
    """
    UPDATE desired SET body = CAST(json_remove(json_set(CAST(body AS TEXT), '$.history',
        CASE WHEN json_type(CAST(body AS TEXT), '$.previous') = 'object'
             THEN json_array(json(json_extract(CAST(body AS TEXT), '$.previous'))) ELSE json_array() END),
        '$.previous') AS BLOB)
    """,
    # The folder of an APP's own files belongs to the version, no longer to the instance.
    """
    UPDATE desired SET body = CAST(json_replace(CAST(body AS TEXT),
        '$.current', CASE json_type(CAST(body AS TEXT), '$.current') WHEN 'object'
            THEN json_set(json_extract(CAST(body AS TEXT), '$.current'), '$.folder',
                          json_extract(CAST(body AS TEXT), '$.folder')) END,
        '$.history[0]', json_set(json_extract(CAST(body AS TEXT), '$.history[0]'), '$.folder',
                                 json_extract(CAST(body AS TEXT), '$.folder'))) AS BLOB)
        WHERE json_extract(CAST(body AS TEXT), '$.folder') != ''
    """,
)

T = TypeVar("T")
KEEP_COMMANDS = 10_000
KEEP_COMMANDS_MS = 7 * 86_400_000
KEEP_JOBS = 500
KEEP_STEPS = 5_000


class StateStore:
    """``state.db``. Every method returns after its commit; NoSpace or Failed mean nothing was changed."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, MIGRATIONS)

    async def open(self) -> None:
        """Open or make the file."""
        await self._db.open()

    async def close(self) -> None:
        """Finish what waits, then close."""
        await self._db.close()

    async def load(self) -> Snapshot:
        """All state, newest job last."""
        return await self._db.read(_load)

    async def commit(self, change: Change, now_ms: int) -> None:
        """Write one decision."""
        await self._db.run(lambda connection: _commit(connection, change, now_ms))

    async def reply_to(self, command_id: str) -> Reply | None:
        """The reply to a command seen before."""

        def find(connection: sqlite3.Connection) -> Reply | None:
            row = connection.execute("SELECT reply FROM commands WHERE id=?", (command_id,)).fetchone()
            return msgspec.json.decode(row[0], type=Reply) if row else None

        return await self._db.read(find)

    async def mark_told(self, job_id: str, updated_ms: int) -> None:
        """The job's state as of `updated_ms` is in the outbox."""
        sql = "UPDATE jobs SET told=1 WHERE id=? AND updated_ms=?"
        await self._db.run(lambda connection: connection.execute(sql, (job_id, updated_ms)))

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

        await self._db.run(save)

    async def load_alarms(self) -> list[Alarm]:
        """The alarms that stand."""
        rows = await self._db.read(lambda c: c.execute("SELECT body FROM alarms").fetchall())
        return [msgspec.json.decode(row[0], type=Alarm) for row in rows]

    async def save_site(self, files: Mapping[str, bytes]) -> None:
        """Keep the site files that hold now, in place of those kept before."""

        def save(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM site")
            connection.executemany("INSERT INTO site VALUES(?,?)", list(files.items()))

        await self._db.run(save)

    async def load_site(self) -> dict[str, bytes]:
        """The site files that held when they were last kept, by path."""
        rows = await self._db.read(lambda c: c.execute("SELECT path, content FROM site").fetchall())
        return {str(path): bytes(content) for path, content in rows}

    async def trim(self, now_ms: int) -> None:
        """Forget old commands, jobs and steps beyond what the contract keeps."""
        await self._db.run(lambda connection: _trim(connection, now_ms))


def _load(c: sqlite3.Connection) -> Snapshot:
    def decode(sql: str, kind: type[T]) -> tuple[T, ...]:
        return tuple(msgspec.json.decode(row[0], type=kind) for row in c.execute(sql))

    return Snapshot(
        desired=decode("SELECT body FROM desired", Desired),
        releases=decode("SELECT body FROM releases", StoredRelease),
        jobs=decode("SELECT body FROM jobs ORDER BY updated_ms", Job),
        untold=tuple(row[0] for row in c.execute("SELECT id FROM jobs WHERE told=0")),
        rules=tuple(StoredRule(*row) for row in c.execute("SELECT name, origin, text FROM rules")),
        meta={str(k): str(v) for k, v in c.execute("SELECT key, value FROM meta")},
    )


def _commit(c: sqlite3.Connection, change: Change, now_ms: int) -> None:
    if change.command is not None and change.reply is not None:
        command, reply = change.command, msgspec.json.encode(change.reply)
        row = (command.id, command.type, command.origin.value, command.who, now_ms, reply)
        c.execute("INSERT OR REPLACE INTO commands VALUES(?,?,?,?,?,?)", row)
    bodies = [(d.name, msgspec.json.encode(d)) for d in change.desired]
    c.executemany("INSERT OR REPLACE INTO desired VALUES(?,?)", bodies)
    bodies = [(r.hash, msgspec.json.encode(r)) for r in change.releases]
    c.executemany("INSERT OR REPLACE INTO releases VALUES(?,?)", bodies)
    rows = [(j.id, j.updated_ms, int(j.state.final), 0, msgspec.json.encode(j)) for j in change.jobs]
    c.executemany("INSERT OR REPLACE INTO jobs VALUES(?,?,?,?,?)", rows)
    c.executemany("DELETE FROM desired WHERE name=?", [(name,) for name in change.gone])
    c.executemany("INSERT OR REPLACE INTO rules VALUES(?,?,?)", [(r.name, r.origin, r.text) for r in change.rules])
    c.executemany("DELETE FROM rules WHERE name=?", [(name,) for name in change.rules_gone])
    c.executemany("INSERT OR REPLACE INTO meta VALUES(?,?)", change.meta)


def _trim(c: sqlite3.Connection, now_ms: int) -> None:
    c.execute(
        """DELETE FROM commands WHERE received_ms < ? AND id IN
           (SELECT id FROM commands ORDER BY received_ms DESC LIMIT -1 OFFSET ?)""",
        (now_ms - KEEP_COMMANDS_MS, KEEP_COMMANDS),
    )
    c.execute(
        """DELETE FROM jobs WHERE told=1 AND id IN
           (SELECT id FROM jobs WHERE final=1 ORDER BY updated_ms DESC LIMIT -1 OFFSET ?)""",
        (KEEP_JOBS,),
    )
    c.execute("DELETE FROM steps WHERE id <= (SELECT max(id) FROM steps) - ?", (KEEP_STEPS,))
