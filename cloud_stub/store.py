"""What the lab cloud keeps. A message is in the database before the broker is told that it may forget it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cloud_stub.intervals import record_seq
from cloud_stub.schema import KEEP_ROWS, SCHEMA
from cloud_stub.wire import Batch, Event, Hostile, Item, JobState, Loss, Parsed, Presence, Reply, parse

_TRIM_EVERY = 500


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the broker handed it over."""

    topic: str
    payload: bytes
    retained: bool = False


class Store:
    """The writing side, for one thread at a time. Reading is `cloud_stub.reads`, on connections of its own."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.executescript(SCHEMA)
        self._streams: dict[tuple[str, str, str, str], int] = {}
        self._commits = 0

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def keep(self, messages: Sequence[Received], now_ms: int) -> None:
        """Keep all of `messages` in one transaction. Raises sqlite3.Error, and then has kept none.

        What is not a message of the dialect is counted and its reason noted. A message that cannot be kept for a
        reason nobody thought of is treated the same way: one of them must not stop the others for ever.
        """
        self._begin()
        try:
            for message in messages:
                self._keep_one(message, now_ms)
            self._commits += 1
            if self._commits % _TRIM_EVERY == 0:
                self._trim()
            self._db.execute("COMMIT")
        except BaseException:
            self._streams.clear()
            self._db.execute("ROLLBACK")
            raise

    def add_command(self, gateway: str, command_id: str, command_type: str, ts_ms: int, ttl_s: float) -> None:
        """Remember that a command is about to be sent. Parameters are not kept: they may hold secrets."""
        self._db.execute(
            "INSERT INTO commands(gateway, id, type, ts_ms, ttl_s) VALUES (?, ?, ?, ?, ?)",
            (gateway, command_id, command_type, ts_ms, ttl_s),
        )

    def drop_command(self, gateway: str, command_id: str) -> None:
        """It could not be sent."""
        self._db.execute("DELETE FROM commands WHERE gateway = ? AND id = ?", (gateway, command_id))

    def set_desired(self, gateway: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Replace a gateway's desired state; gives the new revision, and the old body."""
        self._begin()
        try:
            row = self._db.execute("SELECT revision, body FROM desired WHERE gateway = ?", (gateway,)).fetchone()
            revision, old = (0, {}) if row is None else (row[0], json.loads(row[1]))
            self._db.execute(
                "INSERT OR REPLACE INTO desired(gateway, revision, body) VALUES (?, ?, ?)",
                (gateway, revision + 1, json.dumps(body)),
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        return revision + 1, old

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _keep_one(self, message: Received, now_ms: int) -> None:
        self._db.execute("SAVEPOINT one")
        try:
            parsed = parse(message.topic, message.payload)
            self._see(parsed.gateway, now_ms)
            self._file(parsed, message.retained, now_ms)
        except sqlite3.OperationalError:
            raise  # locked or full: nothing to do with the message
        except Exception as error:  # whatever it is, it is the message's fault
            self._db.execute("ROLLBACK TO one")
            self._streams.clear()
            why = str(error) if isinstance(error, Hostile) else f"{type(error).__name__}: {error}"
            self._note_hostile(message, why, now_ms)
        self._db.execute("RELEASE one")

    def _see(self, gateway: str, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO gateways(id, seen_ms) VALUES (?, ?) ON CONFLICT(id) DO UPDATE SET seen_ms = excluded.seen_ms",
            (gateway, now_ms),
        )

    def _file(self, parsed: Parsed, retained: bool, now_ms: int) -> None:
        message = parsed.message
        if isinstance(message, Batch):
            self._file_batch(parsed, message, now_ms)
        elif isinstance(message, Presence):
            self._file_presence(parsed, message, retained, now_ms)
        elif isinstance(message, Reply):
            added = self._db.execute(
                "INSERT OR IGNORE INTO replies(gateway, id, code, job, body, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
                (parsed.gateway, message.id, message.code, message.job or "", parsed.text, now_ms),
            )
            if added.rowcount:
                self._tell(parsed.gateway, "reply", parsed.text, now_ms)
        elif isinstance(message, JobState):
            added = self._db.execute(
                "INSERT OR IGNORE INTO job_states(gateway, job, ts_ms, state, progress, command, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    parsed.gateway,
                    message.job,
                    message.ts,
                    message.state,
                    message.progress,
                    message.command,
                    parsed.text,
                ),
            )
            if added.rowcount:
                self._tell(parsed.gateway, "job", parsed.text, now_ms)
        elif parsed.text:
            self._db.execute(
                "INSERT OR REPLACE INTO reported(gateway, instance, body, at_ms) VALUES (?, ?, ?, ?)",
                (parsed.gateway, parsed.instance, parsed.text, now_ms),
            )
        else:
            self._db.execute(
                "DELETE FROM reported WHERE gateway = ? AND instance = ?", (parsed.gateway, parsed.instance)
            )

    def _file_presence(self, parsed: Parsed, presence: Presence, retained: bool, now_ms: int) -> None:
        row = self._db.execute("SELECT state, session FROM gateways WHERE id = ?", (parsed.gateway,)).fetchone()
        if retained and row == (presence.state, presence.session):
            return  # told again at our own reconnect
        self._db.execute(
            "UPDATE gateways SET state = ?, agent = ?, session = ?, since_ms = ? WHERE id = ?",
            (presence.state, presence.agent, presence.session, now_ms, parsed.gateway),
        )
        self._tell(parsed.gateway, "presence", parsed.text, now_ms)

    def _file_batch(self, parsed: Parsed, batch: Batch, now_ms: int) -> None:
        stream = self._stream(parsed.gateway, batch)
        if not record_seq(self._db, stream, batch.seq):
            self._db.execute("UPDATE streams SET duplicates = duplicates + 1 WHERE id = ?", (stream,))
            return
        is_data = batch.kind == "data"
        self._db.execute(
            "UPDATE streams SET batches = batches + 1, samples = samples + ?, events = events + ?, bytes = bytes + ?"
            " WHERE id = ?",
            (batch.count if is_data else 0, 0 if is_data else 1, parsed.size_bytes, stream),
        )
        self._db.executemany(
            "INSERT INTO items(gateway, point, t_ms, body) VALUES (?, ?, ?, ?)",
            [
                (parsed.gateway, item.p, item.t if item.t is not None else item.t1, text)
                for item, text in parsed.rows
                if isinstance(item, Item)
            ],
        )
        for event, text in parsed.rows:
            if isinstance(event, Event):
                self._file_event(parsed.gateway, event, text, now_ms)
            elif isinstance(event, Loss):
                self._db.execute(
                    "INSERT OR IGNORE INTO told(gateway, session, priority, stream, first, last, records, samples)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (parsed.gateway, *msgspec.structs.astuple(event)),
                )

    def _file_event(self, gateway: str, event: Event, text: str, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO events(gateway, type, t_ms, at_ms, body) VALUES (?, ?, ?, ?, ?)",
            (gateway, event.type, event.t, now_ms, text),
        )
        self._tell(gateway, event.type, text, now_ms)
        if event.type == "alarm":
            # History may come after live: an older word does not replace a newer one.
            self._db.execute(
                "INSERT INTO alarms(gateway, key, state, severity, code, source, message, t_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(gateway, key) DO UPDATE SET state = excluded.state,"
                " severity = excluded.severity, message = excluded.message, t_ms = excluded.t_ms"
                " WHERE excluded.t_ms >= alarms.t_ms",
                (
                    gateway,
                    event.key or f"{event.source}/{event.code}",
                    event.state,
                    event.severity,
                    event.code,
                    event.source,
                    event.message,
                    event.t,
                ),
            )

    def _stream(self, gateway: str, batch: Batch) -> int:
        key = (gateway, batch.session, batch.priority, batch.stream)
        found = self._streams.get(key)
        if found is None:
            self._db.execute(
                "INSERT OR IGNORE INTO streams(gateway, session, priority, stream) VALUES (?, ?, ?, ?)", key
            )
            row = self._db.execute(
                "SELECT id FROM streams WHERE gateway = ? AND session = ? AND priority = ? AND stream = ?", key
            ).fetchone()
            found = self._streams[key] = int(row[0])
        return found

    def _tell(self, gateway: str, kind: str, text: str, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO feed(gateway, kind, at_ms, body) VALUES (?, ?, ?, ?)", (gateway, kind, now_ms, text)
        )

    def _note_hostile(self, message: Received, why: str, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO hostile(topic, why, size_bytes, at_ms) VALUES (?, ?, ?, ?)",
            (_printable(message.topic)[:256], _printable(why)[:512], len(message.payload), now_ms),
        )
        gateway = message.topic.split("/")[2] if message.topic.count("/") >= 3 else ""
        self._db.execute("UPDATE gateways SET hostile = hostile + 1 WHERE id = ?", (_printable(gateway),))

    def _trim(self) -> None:
        for table, most in KEEP_ROWS.items():
            self._db.execute(f"DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?", (most,))  # noqa: S608


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
