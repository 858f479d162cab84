"""The outbox's file: what must reach the cloud, numbered, bounded in bytes, forgotten only after the acknowledgement.

A record gets its number in the transaction that writes it: (session, priority, stream, seq) has no holes. When the
cap is reached the oldest `bulk` goes, then the oldest `normal`, never `critical`; each loss is told by a gap record
with the exact numbers. A session is the life of one file: a new or restored file begins a new one, and so does one
that was damaged, since numbers that were given out may have been forgotten.
"""

from __future__ import annotations

import itertools
import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.domain.batch import compress, decompress
from agent.domain.priority import Priority
from agent.errors import NoSpace
from agent.ports import OutRecord, Stored
from agent.store.damage import Damaged, Mended
from agent.store.database import Database
from agent.store.inode import name_open_file
from agent.store.salvage import MIGRATIONS, check_records, salvage
from agent.store.wal import WalReading

OVERHEAD_BYTES = 96
ROWS = tuple(Priority)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A record as it lies on the disk: the payload compressed where that pays; outside nobody sees it."""

    record: OutRecord
    stream: str
    rank: int
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes it counts against the cap."""
        return len(self.payload) + OVERHEAD_BYTES


def _pack(record: OutRecord, stream: str) -> _Packed:
    return _Packed(record, stream, record.priority.rank, compress(record.payload))


class SqliteOutbox:
    """An `OutboxStore` in one SQLite file of at most about `cap_bytes` of records."""

    def __init__(self, path: Path, cap_bytes: int) -> None:
        self._path = path
        self._cap_bytes = cap_bytes
        self._db = Database(path, MIGRATIONS, self)
        self._session = ""
        self._begin_session = False
        # Rows handed to the pump may be at the cloud already: dropping one of them would make a false gap.
        self._lent: set[int] = set()

    async def open(self) -> None:
        """Open or make the file, and begin a new session when it is not the file it was.

        A damaged one is set aside; what can be read of it goes on under its old numbers. `mended` says so.
        """
        await self._db.open()
        await self._db.run(self._begin)

    @property
    def mended(self) -> list[Mended]:
        """The times the file was made anew since it was opened."""
        return self._db.mended

    def on_mended(self, listener: Callable[[Mended], None]) -> None:
        """Have `listener` called, in the loop, when the file is made anew while the agent runs."""
        self._db.on_mended.append(listener)

    def check(self, connection: sqlite3.Connection, wal: WalReading) -> None:
        """As a keeper: every table is there; where the last transaction was cut its numbers may have been seen outside."""
        self._begin_session = wal.cut
        try:
            for table in ("meta", "streams", "totals", "gaps"):
                connection.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608
            check_records(connection)
        except (sqlite3.OperationalError, ValueError, TypeError) as error:
            raise Damaged("store.damaged", f"a row is not what was written: {error}") from None

    def fill(self, connection: sqlite3.Connection, aside: Path | None) -> str | None:
        """As a keeper: take over what can be read of the damaged file, and begin a new session."""
        lost = salvage(connection, aside) if aside is not None else None
        self._begin_session = True
        self._begin(connection)
        return lost

    async def close(self) -> None:
        """Finish what waits, then close."""
        await self._db.close()

    @property
    def session(self) -> str:
        """The session that new records belong to."""
        return self._session

    async def append(self, records: Sequence[OutRecord], stream: str, now_ms: int) -> int:
        """Write the records; returns the bytes they take, after the commit. `stream`: live or hist (events, data).

        NoSpace ``outbox.full``: only critical records are left and there is no room; none of `records` was written.
        """
        return await self._db.run(lambda connection: self._append(connection, records, stream, now_ms))

    async def head(self, limit: int) -> list[Stored]:
        """The next records to send, critical first, then by age. Gaps become records here, so they cover all so far."""
        stored = await self._db.read(lambda connection: self._peek(connection, limit))
        return stored if stored is not None else await self._db.run(lambda connection: self._head(connection, limit))

    async def forget(self, rows: Sequence[int]) -> None:
        """Delete what the broker has acknowledged."""

        def work(connection: sqlite3.Connection) -> None:
            _forget(connection, rows)
            self._lent.difference_update(rows)

        await self._db.run(work)

    async def depth(self) -> Mapping[str, Any]:
        """What is held and what was counted, see `Outbox.status`."""
        return await self._db.read(self._depth)

    def _begin(self, c: sqlite3.Connection) -> None:
        meta = dict(c.execute("SELECT key, value FROM meta").fetchall())
        identity = name_open_file(self._path)
        if meta.get("identity") != identity or "session" not in meta or self._begin_session:
            meta = {"identity": identity, "session": secrets.token_hex(8)}
            c.executemany("INSERT OR REPLACE INTO meta VALUES(?,?)", meta.items())
        self._session = meta["session"]
        self._begin_session = False

    def _append(self, c: sqlite3.Connection, records: Sequence[OutRecord], stream: str, now_ms: int) -> int:
        held = sum(row[0] for row in c.execute("SELECT bytes FROM held"))
        packed = [_pack(r, r.kind if r.kind in ("job", "reply") else stream) for r in records]
        taken = sum(each.size for each in packed)
        if held + taken <= self._cap_bytes:
            self._insert(c, packed, now_ms)
            return taken
        for each in packed:
            self._insert(c, [each], now_ms)
            held += each.size
            if held > self._cap_bytes:
                row = c.execute("SELECT last_insert_rowid()").fetchone()[0]
                held -= self._make_room(c, held - self._cap_bytes, each.record.priority, row, now_ms)
        return taken

    def _insert(self, c: sqlite3.Connection, packed: Sequence[_Packed], now_ms: int) -> None:
        """Number and write records. What is counted is written once for all: few statements leave the loop its turns."""
        numbers: dict[tuple[int, str], Iterator[int]] = {}
        for (rank, stream), count in Counter((each.rank, each.stream) for each in packed).items():
            last = c.execute(
                "INSERT INTO streams VALUES(?,?,?,?)"
                " ON CONFLICT DO UPDATE SET last_seq=last_seq+excluded.last_seq RETURNING last_seq",
                (self._session, rank, stream, count),
            ).fetchone()[0]
            numbers[rank, stream] = itertools.count(last - count + 1)
        columns = "priority, session, stream, seq, kind, payload, count, created_ms, bytes"
        c.executemany(
            f"INSERT INTO records({columns}) VALUES(?,?,?,?,?,?,?,?,?)",
            [
                (
                    each.rank, self._session, each.stream, next(numbers[each.rank, each.stream]), each.record.kind,
                    each.payload, each.record.count, now_ms, each.size,
                )
                for each in packed
            ],
        )  # fmt: skip
        totals: dict[tuple[int, str, str], list[_Packed]] = {}
        for each in packed:
            totals.setdefault((each.rank, each.stream, each.record.kind), []).append(each)
        for (rank, stream, kind), group in totals.items():
            size = sum(each.size for each in group)
            c.execute(
                "INSERT INTO totals(priority, stream, kind, added_records, added_samples, added_bytes)"
                " VALUES(?,?,?,?,?,?) ON CONFLICT DO UPDATE SET added_records=added_records+excluded.added_records,"
                " added_samples=added_samples+excluded.added_samples, added_bytes=added_bytes+excluded.added_bytes",
                (rank, stream, kind, len(group), sum(each.record.count for each in group), size),
            )
            c.execute("UPDATE held SET records=records+?, bytes=bytes+? WHERE priority=?", (len(group), size, rank))

    def _make_room(self, c: sqlite3.Connection, wanted: int, newcomer: Priority, own: int, now_ms: int) -> int:
        """Drop the oldest bulk, then normal, until `wanted` bytes are free; returns how many are.

        A newcomer never drives out what is more urgent: where only that is left, it goes itself. One of priority
        critical does not go: its whole append is undone.
        """
        freed = 0
        for rank in range(Priority.BULK.rank, max(newcomer.rank, Priority.NORMAL.rank) - 1, -1):
            sql = "SELECT row, session, stream, seq, kind, count, bytes FROM records WHERE priority=? ORDER BY row"
            victims = []
            for row, *about, size in c.execute(sql, (rank,)):
                if freed >= wanted:
                    break
                if row not in self._lent:
                    victims.append((row, *about, size))
                    freed += size
            for victim in victims:
                _drop(c, rank, victim, now_ms)
        if freed < wanted:
            if newcomer is Priority.CRITICAL:
                raise NoSpace(
                    "outbox.full", f"the outbox holds {self._cap_bytes} bytes of records that may not be dropped",
                    hint="bring the cloud link back, or give uplink.disk more room",
                )  # fmt: skip
            # Everything older of its own priority is on its way: what came last is lost, and numbered.
            sql = "SELECT row, session, stream, seq, kind, count, bytes FROM records WHERE row=?"
            for row in c.execute(sql, (own,)).fetchall():
                _drop(c, newcomer.rank, row, now_ms)
                freed += row[6]
        return freed

    def _peek(self, c: sqlite3.Connection, limit: int) -> list[Stored] | None:
        """As `_head` where there is nothing to write, which nearly always saves a commit; None where there is."""
        if c.execute("SELECT 1 FROM gaps LIMIT 1").fetchone() is not None:
            return None
        return self._select(c, limit)

    def _head(self, c: sqlite3.Connection, limit: int) -> list[Stored]:
        for gap in c.execute("SELECT * FROM gaps ORDER BY id").fetchall():
            _, session, rank, stream, first, last, records, samples, at_ms = gap
            body = {
                "type": "gap", "session": session, "priority": ROWS[rank].value, "stream": stream, "from": first,
                "to": last, "records": records, "samples": samples, "t": at_ms,
            }  # fmt: skip
            record = OutRecord(Priority.CRITICAL, "event", msgspec.json.encode(body))
            self._insert(c, [_pack(record, "hist")], at_ms)
        c.execute("DELETE FROM gaps")
        return self._select(c, limit)

    def _select(self, c: sqlite3.Connection, limit: int) -> list[Stored]:
        sql = (
            "SELECT row, session, priority, stream, seq, kind, payload, count, created_ms FROM records"
            " ORDER BY priority, row LIMIT ?"
        )
        try:
            stored = [
                Stored(row, session, ROWS[rank], stream, seq, kind, decompress(payload), count, at_ms)
                for row, session, rank, stream, seq, kind, payload, count, at_ms in c.execute(sql, (limit,))
            ]
        except (ValueError, TypeError, IndexError) as error:
            # Else this record would stand in everybody's way for ever.
            raise Damaged("store.damaged", f"a record is not what was written: {error}") from None
        self._lent.update(each.row for each in stored)
        return stored

    def _depth(self, c: sqlite3.Connection) -> dict[str, Any]:
        held = c.execute("SELECT priority, records, bytes FROM held").fetchall()
        names = (
            "priority", "stream", "kind", "added_records", "added_samples", "added_bytes", "sent_records",
            "sent_samples", "dropped_records", "dropped_samples",
        )  # fmt: skip
        totals = [dict(zip(names, (ROWS[row[0]].value, *row[1:]), strict=True)) for row in c.execute(
            f"SELECT {', '.join(names)} FROM totals ORDER BY 1, 2, 3"  # noqa: S608
        )]  # fmt: skip
        streams = c.execute(
            "SELECT priority, stream, last_seq FROM streams WHERE session=? ORDER BY 1, 2", (self._session,)
        )
        disk = os.statvfs(self._path.parent)
        return {
            "session": self._session,
            "records": {ROWS[rank].value: records for rank, records, _ in held},
            "bytes": sum(size for _, _, size in held),
            "cap_bytes": self._cap_bytes,
            "disk_free_bytes": disk.f_bavail * disk.f_frsize,
            "oldest_ms": c.execute("SELECT min(created_ms) FROM records").fetchone()[0],
            "streams": [{"priority": ROWS[r].value, "stream": s, "last_seq": seq} for r, s, seq in streams],
            "totals": totals,
            "gaps_waiting": c.execute("SELECT count(*) FROM gaps").fetchone()[0],
        }


def _drop(c: sqlite3.Connection, rank: int, victim: Iterable[Any], now_ms: int) -> None:
    row, session, stream, seq, kind, count, size = victim
    c.execute("DELETE FROM records WHERE row=?", (row,))
    c.execute("UPDATE held SET records=records-1, bytes=bytes-? WHERE priority=?", (size, rank))
    c.execute(
        "UPDATE totals SET dropped_records=dropped_records+1, dropped_samples=dropped_samples+?"
        " WHERE priority=? AND stream=? AND kind=?",
        (count, rank, stream, kind),
    )
    grown = c.execute(
        "UPDATE gaps SET last=?, records=records+1, samples=samples+?, at_ms=?"
        " WHERE session=? AND priority=? AND stream=? AND last=?",
        (seq, count, now_ms, session, rank, stream, seq - 1),
    ).rowcount
    if not grown:
        c.execute(
            "INSERT INTO gaps(session, priority, stream, first, last, records, samples, at_ms) VALUES(?,?,?,?,?,1,?,?)",
            (session, rank, stream, seq, seq, count, now_ms),
        )


def _forget(c: sqlite3.Connection, rows: Sequence[int]) -> None:
    for row in rows:
        found = c.execute(
            "DELETE FROM records WHERE row=? RETURNING priority, stream, kind, count, bytes", (row,)
        ).fetchone()
        if found is None:
            continue
        rank, stream, kind, count, size = found
        c.execute("UPDATE held SET records=records-1, bytes=bytes-? WHERE priority=?", (size, rank))
        c.execute(
            "UPDATE totals SET sent_records=sent_records+1, sent_samples=sent_samples+?"
            " WHERE priority=? AND stream=? AND kind=?",
            (count, rank, stream, kind),
        )
