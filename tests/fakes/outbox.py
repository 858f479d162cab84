"""An outbox store in memory. It keeps the promises of tests/contract/test_outbox_store.py, as the file does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agent.domain.alarm import Alarm
from agent.domain.priority import Priority
from agent.errors import GatewayError, NoSpace
from agent.ports import OutRecord, Stored

OVERHEAD_BYTES = 96


class FakeOutboxStore:
    """ports.OutboxStore. Set `failing` to an error, and `append` raises it."""

    def __init__(self, cap_bytes: int = 1_000_000, session: str = "s1") -> None:
        self.cap_bytes = cap_bytes
        self.session = session
        self.failing: GatewayError | None = None
        self.rows: dict[int, Stored] = {}
        self.appends = 0
        self._last_row = 0
        self._seqs: Counter[tuple[Priority, str]] = Counter()
        self._totals: dict[tuple[Priority, str, str], Counter[str]] = {}
        self._gaps: list[dict[str, Any]] = []
        self._lent: set[int] = set()

    async def append(self, records: Sequence[OutRecord], stream: str, now_ms: int) -> int:
        """All or none."""
        if self.failing is not None:
            raise self.failing
        before = (dict(self.rows), self._seqs.copy(), {k: v.copy() for k, v in self._totals.items()}, self._last_row)
        gaps = [dict(gap) for gap in self._gaps]
        try:
            taken = 0
            for record in records:
                own = self._insert(record, record.kind if record.kind in ("job", "reply") else stream, now_ms)
                taken += _size(own)
                self._make_room(own, now_ms)
        except NoSpace:
            self.rows, self._seqs, self._totals, self._last_row = before
            self._gaps = gaps
            raise
        self.appends += 1
        return taken

    async def head(self, limit: int) -> list[Stored]:
        """Gaps first become records."""
        gaps, self._gaps = self._gaps, []
        for gap in gaps:
            payload = msgspec.json.encode(gap)
            self._insert(OutRecord(Priority.CRITICAL, "event", payload), "hist", gap["t"])
        found = sorted(self.rows.values(), key=lambda each: (each.priority.rank, each.row))[:limit]
        self._lent |= {each.row for each in found}
        return found

    async def forget(self, rows: Sequence[int]) -> None:
        """Unknown rows are let be."""
        for row in rows:
            stored = self.rows.pop(row, None)
            self._lent.discard(row)
            if stored is not None:
                self._count(stored, "sent")

    async def depth(self) -> Mapping[str, Any]:
        """As the file's."""
        held = Counter(stored.priority for stored in self.rows.values())
        return {
            "session": self.session,
            "records": {priority.value: held[priority] for priority in Priority},
            "bytes": self._bytes(),
            "cap_bytes": self.cap_bytes,
            "disk_free_bytes": 10**12,
            "oldest_ms": min((stored.created_ms for stored in self.rows.values()), default=None),
            "streams": [
                {"priority": priority.value, "stream": stream, "last_seq": seq}
                for (priority, stream), seq in sorted(
                    self._seqs.items(), key=lambda item: (item[0][0].rank, item[0][1])
                )
            ],
            "totals": [
                {"priority": key[0].value, "stream": key[1], "kind": key[2], **counts}
                for key, counts in sorted(self._totals.items(), key=lambda item: (item[0][0].rank, *item[0][1:]))
            ],
            "gaps_waiting": len(self._gaps),
        }

    def _insert(self, record: OutRecord, stream: str, now_ms: int) -> Stored:
        self._last_row += 1
        self._seqs[record.priority, stream] += 1
        seq = self._seqs[record.priority, stream]
        stored = Stored(
            self._last_row,
            self.session,
            record.priority,
            stream,
            seq,
            record.kind,
            record.payload,
            record.count,
            now_ms,
        )
        self.rows[stored.row] = stored
        self._count(stored, "added")
        self._totals[record.priority, stream, record.kind]["added_bytes"] += _size(stored)
        return stored

    def _make_room(self, own: Stored, now_ms: int) -> None:
        ranks = range(Priority.BULK.rank, max(own.priority.rank, Priority.NORMAL.rank) - 1, -1)
        for rank in ranks:
            for row in sorted(self.rows):
                if self._bytes() <= self.cap_bytes:
                    return
                if self.rows[row].priority.rank == rank and row not in self._lent:
                    self._drop(self.rows.pop(row), now_ms)
        if self._bytes() > self.cap_bytes:
            if own.priority is Priority.CRITICAL:
                raise NoSpace("outbox.full", "the outbox is full of critical records")
            if own.row in self.rows:
                self._drop(self.rows.pop(own.row), now_ms)

    def _drop(self, stored: Stored, now_ms: int) -> None:
        self._count(stored, "dropped")
        for gap in self._gaps:
            same = (gap["priority"], gap["stream"]) == (stored.priority.value, stored.stream)
            if same and gap["to"] == stored.seq - 1:
                gap |= {"to": stored.seq, "records": gap["records"] + 1, "samples": gap["samples"] + stored.count}
                gap["t"] = now_ms
                return
        self._gaps.append(
            {
                "type": "gap", "session": stored.session, "priority": stored.priority.value, "stream": stored.stream,
                "from": stored.seq, "to": stored.seq, "records": 1, "samples": stored.count, "t": now_ms,
            }
        )  # fmt: skip

    def _count(self, stored: Stored, what: str) -> None:
        key = (stored.priority, stored.stream, stored.kind)
        names = [f"{word}_{unit}" for word in ("added", "sent", "dropped") for unit in ("records", "samples")]
        counts = self._totals.setdefault(key, Counter(dict.fromkeys([*names, "added_bytes"], 0)))
        counts[f"{what}_records"] += 1
        counts[f"{what}_samples"] += stored.count

    def _bytes(self) -> int:
        return sum(_size(stored) for stored in self.rows.values())


def _size(stored: Stored) -> int:
    return len(stored.payload) + OVERHEAD_BYTES


class FakeAlarmStore:
    """data.alarms.AlarmStore in memory."""

    def __init__(self) -> None:
        self.alarms: dict[str, Alarm] = {}
        self.saves = 0

    async def save_alarm(self, alarm: Alarm) -> None:
        """Keep it, or forget a cleared one."""
        self.saves += 1
        if alarm.active:
            self.alarms[alarm.key] = alarm
        else:
            self.alarms.pop(alarm.key, None)

    async def load_alarms(self) -> list[Alarm]:
        """What stands."""
        return list(self.alarms.values())
