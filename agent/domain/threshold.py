"""A measured value against a line, with hysteresis: what raises an alarm, and what clears it. Pure.

Raised when the value has been beyond `limit` for `for_s`, cleared when it has been back behind `clear` for as long; in
between nothing changes, so a value that dances on a line, or jumps over it for a moment, makes no alarm and ends none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """`limit` above `clear` watches for too much, below it for too little. Times are seconds."""

    limit: float
    clear: float
    for_s: float = 0.0

    def __post_init__(self) -> None:
        if self.limit == self.clear:
            raise ValueError("a threshold without a band would flap")

    def beyond(self, value: float) -> bool:
        """True on the far side of `limit`."""
        return value > self.limit if self.limit > self.clear else value < self.limit

    def behind(self, value: float) -> bool:
        """True on the near side of `clear`."""
        return value < self.clear if self.limit > self.clear else value > self.clear


@dataclass(frozen=True, slots=True)
class Level:
    """Where one value stands. `since` is when it crossed the line that matters next; None while it has not."""

    raised: bool = False
    since: float | None = None


def observe(level: Level, threshold: Threshold, value: float | None, now: float) -> Level:
    """The level after one measurement at `now`, in seconds that only grow; None: it could not be measured."""
    if value is None:
        return level
    crossed = threshold.behind(value) if level.raised else threshold.beyond(value)
    if not crossed:
        return Level(level.raised)
    since = now if level.since is None else level.since
    if now - since >= threshold.for_s:
        return Level(not level.raised)
    return Level(level.raised, since)
