"""What the plant's log says about reaction times: from the register's change to the valve's write, on one clock."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Reaction:
    """One crossing of the limit and the first valve write after it. Times are monotonic ns."""

    way: str
    crossed_ns: int
    served_ns: int
    written_ns: int

    @property
    def from_change_ms(self) -> float:
        """The value changed in the device -> the valve's register was written: polling interval included."""
        return (self.written_ns - self.crossed_ns) / 1e6

    @property
    def from_read_ms(self) -> float:
        """The device answered the read that showed it -> the valve's register was written: the gateway's own share."""
        return (self.written_ns - self.served_ns) / 1e6


def read_reactions(log: Path) -> list[Reaction]:
    """Every crossing that was read and then answered by a write of the valve, in order."""
    found: list[Reaction] = []
    crossed: dict[str, Any] | None = None
    served_ns = 0
    for entry in _entries(log):
        if entry["event"] == "cross":
            crossed, served_ns = entry, 0
        elif entry["event"] == "served" and crossed is not None and entry["way"] == crossed["way"]:
            served_ns = entry["ns"]
        elif entry["event"] == "write" and entry["register"] == "valve" and crossed is not None and served_ns:
            found.append(Reaction(crossed["way"], crossed["ns"], served_ns, entry["ns"]))
            crossed = None
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _entries(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
