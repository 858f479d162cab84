"""Which numbers of a stream have been received, as closed intervals kept in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import pairwise

Interval = tuple[int, int]


def record_seq(db: sqlite3.Connection, stream: int, seq: int) -> bool:
    """Note `seq` within the caller's transaction. False when it was there already."""
    below = db.execute(
        "SELECT first, last FROM intervals WHERE stream = ? AND first <= ? ORDER BY first DESC LIMIT 1", (stream, seq)
    ).fetchone()
    if below is not None and seq <= below[1]:
        return False
    above = db.execute("SELECT last FROM intervals WHERE stream = ? AND first = ?", (stream, seq + 1)).fetchone()
    first = below[0] if below is not None and below[1] == seq - 1 else seq
    last = seq if above is None else above[0]
    if above is not None:
        db.execute("DELETE FROM intervals WHERE stream = ? AND first = ?", (stream, seq + 1))
    db.execute("INSERT OR REPLACE INTO intervals(stream, first, last) VALUES (?, ?, ?)", (stream, first, last))
    return True


def read_intervals(db: sqlite3.Connection, stream: int) -> list[Interval]:
    """The intervals of a stream, ascending."""
    rows = db.execute("SELECT first, last FROM intervals WHERE stream = ? ORDER BY first", (stream,))
    return [(first, last) for first, last in rows]


def find_gaps(intervals: Sequence[Interval]) -> list[Interval]:
    """What is missing below the highest number: still on its way, or lost. Streams count from 1."""
    edges = [(0, 0), *intervals]
    return [(last + 1, first - 1) for (_, last), (first, _) in pairwise(edges) if first > last + 1]


def subtract(intervals: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """What of `intervals` (ascending, apart) no one of `others` covers."""
    left = list(intervals)
    for first, last in others:
        pieces: list[Interval] = []
        for low, high in left:
            pieces += [
                piece for piece in ((low, min(high, first - 1)), (max(low, last + 1), high)) if piece[0] <= piece[1]
            ]
        left = pieces
    return left


def size(intervals: Sequence[Interval]) -> int:
    """How many numbers they hold."""
    return sum(last - first + 1 for first, last in intervals)
