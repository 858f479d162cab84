"""Reading what the lab cloud keeps. Each call opens the file read-only, so none waits for the writer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_stub.intervals import find_gaps, read_intervals, size, subtract

Row = dict[str, Any]
_SUMS = "batches", "duplicates", "events", "samples", "bytes"


class Reads:
    """Queries, each for any thread. They give dictionaries in the shapes of `cloud_stub.models`."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.resolve().as_uri()}?mode=ro"

    def gateways(self) -> list[Row]:
        """Every gateway ever seen."""
        with self._open() as db:
            return _rows(db.execute("SELECT * FROM gateways ORDER BY id"))

    def gateway(self, gateway: str) -> Row | None:
        """One gateway, with the index it reported as `facts`."""
        with self._open() as db:
            found = _rows(db.execute("SELECT * FROM gateways WHERE id = ?", (gateway,)))
            facts = db.execute("SELECT body FROM reported WHERE gateway = ? AND instance = ''", (gateway,)).fetchone()
        return {**found[0], "facts": json.loads(facts["body"]) if facts else None} if found else None

    def apps(self, gateway: str) -> dict[str, Row]:
        """What each instance was last reported to be."""
        with self._open() as db:
            rows = db.execute(
                "SELECT instance, body FROM reported WHERE gateway = ? AND instance != '' ORDER BY instance", (gateway,)
            )
            return {row["instance"]: json.loads(row["body"]) for row in rows}

    def alarms(self, gateway: str) -> list[Row]:
        """The last word about each alarm, newest first."""
        with self._open() as db:
            return _rows(db.execute("SELECT * FROM alarms WHERE gateway = ? ORDER BY t_ms DESC, key", (gateway,)))

    def events(self, gateway: str, after: int, limit: int) -> list[Row]:
        """Alarms and high-value events in the order of their arrival, after the row `after`."""
        return self._told("SELECT id, type AS kind, at_ms, body FROM events", gateway, after, limit)

    def feed(self, gateway: str, after: int, limit: int) -> list[Row]:
        """Everything worth watching in the order of its arrival, after the row `after`."""
        return self._told("SELECT id, kind, at_ms, body FROM feed", gateway, after, limit)

    def last_fed(self, gateway: str) -> int:
        """The number of the newest row of the feed, 0 when there is none."""
        with self._open() as db:
            row = db.execute("SELECT max(id) AS last FROM feed WHERE gateway = ?", (gateway,)).fetchone()
            return int(row["last"] or 0)

    def data(self, gateway: str, point: str | None, after: int, limit: int) -> list[Row]:
        """Samples and aggregates in the order of their arrival, of one point or of all."""
        with self._open() as db:
            rows = db.execute(
                "SELECT id, point, t_ms, body FROM items WHERE gateway = ? AND id > ? AND (? IS NULL OR point = ?)"
                " ORDER BY id LIMIT ?",
                (gateway, after, point, point, limit),
            )
            return [{**dict(row), "body": json.loads(row["body"])} for row in rows]

    def streams(self, gateway: str) -> list[Row]:
        """Every stream with its intervals and gaps."""
        with self._open() as db:
            found = []
            for row in _rows(db.execute("SELECT * FROM streams WHERE gateway = ? ORDER BY id", (gateway,))):
                intervals = read_intervals(db, row["id"])
                lost = db.execute(
                    "SELECT first, last FROM told WHERE gateway = ? AND session = ? AND priority = ? AND stream = ?"
                    " ORDER BY first",
                    (gateway, row["session"], row["priority"], row["stream"]),
                ).fetchall()
                told = [(one["first"], one["last"]) for one in lost]
                gaps = subtract(find_gaps(intervals), told)
                found.append({**row, "intervals": intervals, "gaps": gaps, "lost": told})
            return found

    def counts(self, gateway: str) -> Row:
        """Sums over all streams; `missing` numbers lie in gaps, `lost` ones were told to be dropped for want of room."""
        streams = self.streams(gateway)
        sums: Row = {name: sum(row[name] for row in streams) for name in _SUMS}
        sums["missing"] = sum(size(row["gaps"]) for row in streams)
        sums["lost"] = sum(size(row["lost"]) for row in streams)
        with self._open() as db:
            row = db.execute("SELECT hostile FROM gateways WHERE id = ?", (gateway,)).fetchone()
            sums["hostile"] = row["hostile"] if row else 0
        return sums

    def hostile(self, limit: int) -> list[Row]:
        """The newest messages that were none."""
        with self._open() as db:
            return _rows(db.execute("SELECT * FROM hostile ORDER BY id DESC LIMIT ?", (limit,)))

    def command(self, gateway: str, command_id: str, now_ms: int) -> Row | None:
        """A command, its reply, and the states of its job."""
        with self._open() as db:
            row = db.execute("SELECT * FROM commands WHERE gateway = ? AND id = ?", (gateway, command_id)).fetchone()
            if row is None:
                return None
            reply = db.execute(
                "SELECT job, body FROM replies WHERE gateway = ? AND id = ?", (gateway, command_id)
            ).fetchone()
            job = reply["job"] if reply else ""
            states = db.execute(
                "SELECT body FROM job_states WHERE gateway = ? AND (job = ? AND job != '' OR command = ?) ORDER BY n",
                (gateway, job, command_id),
            ).fetchall()
        state = "answered" if reply else "expired" if now_ms > row["ts_ms"] + row["ttl_s"] * 1000 else "sent"
        return {
            "id": command_id,
            "gateway": gateway,
            "type": row["type"],
            "ts": row["ts_ms"],
            "ttl_s": row["ttl_s"],
            "state": state,
            "reply": json.loads(reply["body"]) if reply else None,
            "job": [json.loads(one["body"]) for one in states],
        }

    def desired(self) -> list[tuple[str, int, Row]]:
        """Every gateway's desired state: (gateway, revision, body)."""
        with self._open() as db:
            rows = db.execute("SELECT gateway, revision, body FROM desired").fetchall()
            return [(row["gateway"], row["revision"], json.loads(row["body"])) for row in rows]

    def _told(self, query: str, gateway: str, after: int, limit: int) -> list[Row]:
        with self._open() as db:
            rows = db.execute(f"{query} WHERE gateway = ? AND id > ? ORDER BY id LIMIT ?", (gateway, after, limit))
            return [{**dict(row), "body": json.loads(row["body"])} for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._uri, uri=True, timeout=5.0)
        db.row_factory = sqlite3.Row
        try:
            yield db
        finally:
            db.close()


def _rows(cursor: sqlite3.Cursor) -> list[Row]:
    return [dict(row) for row in cursor]
