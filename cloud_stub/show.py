"""Rows as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as they need to be; the last one runs free."""
    lines = [list(head), *[[_printable(str(cell)) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def moment(time_ms: int | None) -> str:
    """``2026-11-24 10:00:00`` in UTC; a dash for none."""
    if not time_ms:
        return "-"
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def feed_line(row: dict[str, Any]) -> str:
    """One line of `eccloud watch`."""
    body = row["body"]
    words: dict[str, Callable[[], str]] = {
        "presence": lambda: f"{body.get('state')} agent {body.get('agent')}",
        "job": lambda: job_line(body),
        "reply": lambda: f"{body.get('id')} {body.get('code')} {body.get('msg', '')}",
        "alarm": lambda: f"{body.get('state')} {body.get('severity')} {body.get('key')}: {body.get('message')}",
        "event": lambda: f"{body.get('app')} {body.get('name')} {body.get('data')}",
    }
    tell = words.get(row["kind"], lambda: str(body))
    return f"{moment(row['at_ms'])}  {row['kind']:<8}  {_printable(tell())}"


def job_line(body: dict[str, Any]) -> str:
    """One state of a job."""
    progress = f" {body['progress']}%" if body.get("progress") else ""
    return f"{body.get('kind', '')} {body.get('instance', '')} {body.get('state')}{progress} {body.get('message', '')}".strip()


def _printable(text: str) -> str:
    # What a gateway sends must not move the cursor or change colours of the one who watches.
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
