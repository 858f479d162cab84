"""The tables of ``state.db``, and how a snapshot and a change become their rows."""

from __future__ import annotations

import sqlite3
from typing import TypeVar

import msgspec

from agent.domain.app import Desired
from agent.domain.command import Job
from agent.domain.journal import Change, Snapshot, StoredRelease, StoredRule
from agent.domain.retention import as_kept

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


def read_snapshot(c: sqlite3.Connection) -> Snapshot:
    """Everything the control room needs at start, newest job last."""

    def decode(sql: str, kind: type[T]) -> tuple[T, ...]:
        return tuple(msgspec.json.decode(row[0], type=kind) for row in c.execute(sql))

    return Snapshot(
        desired=decode("SELECT body FROM desired", Desired),
        releases=decode("SELECT body FROM releases", StoredRelease),
        jobs=tuple(as_kept(job) for job in decode("SELECT body FROM jobs ORDER BY updated_ms", Job)),
        untold=tuple(row[0] for row in c.execute("SELECT id FROM jobs WHERE told=0 ORDER BY updated_ms")),
        rules=tuple(StoredRule(*row) for row in c.execute("SELECT name, origin, text FROM rules")),
        meta={str(k): str(v) for k, v in c.execute("SELECT key, value FROM meta")},
    )


def write_change(c: sqlite3.Connection, change: Change, now_ms: int) -> Change:
    """Write one decision; gives it back."""
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
    c.executemany("DELETE FROM jobs WHERE id=?", [(id_,) for id_ in change.jobs_gone])
    c.executemany("DELETE FROM releases WHERE hash=?", [(hash_,) for hash_ in change.releases_gone])
    c.executemany("DELETE FROM desired WHERE name=?", [(name,) for name in change.gone])
    c.executemany("INSERT OR REPLACE INTO rules VALUES(?,?,?)", [(r.name, r.origin, r.text) for r in change.rules])
    c.executemany("DELETE FROM rules WHERE name=?", [(name,) for name in change.rules_gone])
    c.executemany("INSERT OR REPLACE INTO meta VALUES(?,?)", change.meta)
    c.executemany("DELETE FROM meta WHERE key=?", [(key,) for key in change.meta_gone])
    return change
