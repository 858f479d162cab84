"""One file, one writer: what is answered is on disk, what failed changed nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.errors import Conflict, Failed, Malformed, Refused
from agent.store.database import Database

TABLE = ("CREATE TABLE t(a INTEGER PRIMARY KEY)",)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "x.db", TABLE)
    await database.open()
    yield database
    await database.close()


def put(value: int) -> Callable[[sqlite3.Connection], object]:
    return lambda c: c.execute("INSERT INTO t VALUES(?)", (value,))


async def rows(db: Database) -> list[int]:
    return await db.read(lambda c: [a for (a,) in c.execute("SELECT a FROM t ORDER BY a")])


async def test_writes_that_wait_together_share_commits(db: Database) -> None:
    await asyncio.gather(*(db.run(put(n)) for n in range(2000)))
    assert await rows(db) == list(range(2000))
    assert db.commits < 200


async def test_one_that_fails_is_undone_alone(db: Database) -> None:
    def half(c: sqlite3.Connection) -> None:
        c.execute("INSERT INTO t VALUES(1)")
        raise Malformed("x.y", "no")

    results = await asyncio.gather(db.run(half), db.run(put(2)), db.run(put(2)), db.run(put(3)), return_exceptions=True)
    assert [type(r) for r in results[::2]] == [Malformed, Failed]
    assert await rows(db) == [2, 3]


async def test_a_second_agent_on_the_same_file_is_refused(db: Database, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"another agent uses x\.db"):
        await Database(tmp_path / "x.db", TABLE).open()


async def test_a_file_of_a_newer_agent_is_refused_and_not_touched(tmp_path: Path) -> None:
    newer = Database(tmp_path / "x.db", (*TABLE, "CREATE TABLE u(b)"))
    await newer.open()
    await newer.close()
    before = (tmp_path / "x.db").read_bytes()
    with pytest.raises(Refused, match="format 2; this agent knows 1"):
        await Database(tmp_path / "x.db", TABLE).open()
    assert (tmp_path / "x.db").read_bytes() == before


async def test_an_older_file_is_brought_up_in_steps(tmp_path: Path) -> None:
    old = Database(tmp_path / "x.db", TABLE)
    await old.open()
    await old.run(put(7))
    await old.close()
    new = Database(tmp_path / "x.db", (*TABLE, "ALTER TABLE t ADD COLUMN b"))
    await new.open()
    assert await new.read(lambda c: c.execute("SELECT a, b FROM t").fetchall()) == [(7, None)]
    await new.close()


async def test_a_damaged_file_is_set_aside_and_begun_anew_and_said_to_be(tmp_path: Path) -> None:
    junk = b"not a database at all" * 500
    (tmp_path / "x.db").write_bytes(junk)
    db = Database(tmp_path / "x.db", TABLE)
    await db.open()
    await db.run(put(1))
    (mended,) = db.mended
    assert "file is not a database" in str(mended)
    assert (tmp_path / mended.aside).read_bytes() == junk
    await db.close()


async def test_closing_finishes_what_waits(tmp_path: Path) -> None:
    db = Database(tmp_path / "x.db", TABLE)
    await db.open()
    waiting = [db.submit(put(n)) for n in range(500)]
    await db.close()
    assert all(f.done() and f.exception() is None for f in waiting)
