"""The outbox's tables, and what can be saved of a damaged file: whole records, under the numbers that they have."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.domain.batch import decompress
from agent.domain.priority import Priority

MIGRATIONS = (
    """
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE records(row INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL, session TEXT NOT NULL,
                         stream TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL,
                         count INTEGER NOT NULL, created_ms INTEGER NOT NULL, bytes INTEGER NOT NULL);
    CREATE INDEX records_in_order ON records(priority, row);
    CREATE TABLE streams(session TEXT NOT NULL, priority INTEGER NOT NULL, stream TEXT NOT NULL,
                         last_seq INTEGER NOT NULL, PRIMARY KEY(session, priority, stream)) WITHOUT ROWID;
    CREATE TABLE totals(priority INTEGER NOT NULL, stream TEXT NOT NULL, kind TEXT NOT NULL,
                        added_records INTEGER NOT NULL DEFAULT 0, added_samples INTEGER NOT NULL DEFAULT 0,
                        added_bytes INTEGER NOT NULL DEFAULT 0,
                        sent_records INTEGER NOT NULL DEFAULT 0, sent_samples INTEGER NOT NULL DEFAULT 0,
                        dropped_records INTEGER NOT NULL DEFAULT 0, dropped_samples INTEGER NOT NULL DEFAULT 0,
                        PRIMARY KEY(priority, stream, kind)) WITHOUT ROWID;
    CREATE TABLE held(priority INTEGER PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL);
    INSERT INTO held VALUES(0, 0, 0), (1, 0, 0), (2, 0, 0);
    CREATE TABLE gaps(id INTEGER PRIMARY KEY, session TEXT NOT NULL, priority INTEGER NOT NULL, stream TEXT NOT NULL,
                      first INTEGER NOT NULL, last INTEGER NOT NULL, records INTEGER NOT NULL,
                      samples INTEGER NOT NULL, at_ms INTEGER NOT NULL);
    """,
)


_COLUMNS = "row, priority, session, stream, seq, kind, payload, count, created_ms, bytes"
_TYPES = (int, int, str, str, int, str, bytes, int, int, int)
MAX_MISSES = 2_000


def check_records(c: sqlite3.Connection) -> None:
    """ValueError when the records are not those that were counted. Payloads are looked at when they are sent."""
    counted = dict(c.execute("SELECT priority, count(*) FROM records GROUP BY priority").fetchall())
    held = dict(c.execute("SELECT priority, records FROM held").fetchall())
    if held != {each.rank: counted.get(each.rank, 0) for each in Priority}:
        raise ValueError("the records are not those that were counted")


def salvage(c: sqlite3.Connection, aside: Path) -> str:
    """Copy every whole record from a damaged file; says how many, and how many may be lost."""
    saved, expected = 0, None
    try:
        with contextlib.closing(sqlite3.connect(aside, isolation_level=None)) as old:
            old.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
            expected = _expected(old)
            for record in _readable(old):
                c.execute(f"INSERT OR IGNORE INTO records({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?)", record)
                saved += 1
    except sqlite3.DatabaseError:
        pass  # what was read until here is saved
    c.execute(
        "UPDATE held SET records=(SELECT count(*) FROM records WHERE records.priority=held.priority),"
        " bytes=(SELECT coalesce(sum(bytes), 0) FROM records WHERE records.priority=held.priority)"
    )
    if expected is None:
        return f"a new session begins; {saved} records were saved, how many are lost cannot be told"
    return f"a new session begins; {saved} records were saved, {max(0, expected - saved)} may be lost"


def _expected(old: sqlite3.Connection) -> int | None:
    """How many records the file said it held."""
    try:
        return int(old.execute("SELECT sum(records) FROM held").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError):
        return None


def _readable(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """The whole records, by row; a page that cannot be read costs the rows on it."""
    sql = f"SELECT {_COLUMNS} FROM records NOT INDEXED WHERE row>? ORDER BY row"  # noqa: S608
    last, misses = 0, 0
    while misses < MAX_MISSES:
        try:
            for record in old.execute(sql, (last,)):
                last = record[0]
                if _whole(record):
                    yield record
            return
        except sqlite3.DatabaseError:
            misses += 1
            last += 1


def _whole(record: tuple[Any, ...]) -> bool:
    if not all(isinstance(value, kind) for value, kind in zip(record, _TYPES, strict=True)):
        return False
    try:
        decompress(record[6])
    except ValueError:
        return False
    return record[1] in {each.rank for each in Priority}
