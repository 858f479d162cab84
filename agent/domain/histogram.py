"""Durations counted into buckets of fixed, growing width: bounded memory, quantiles within 5 %."""

from __future__ import annotations

import math

SMALLEST_S = 1e-6
GROWTH = 1.05
BUCKETS = 368  # up to a minute
_LOG = math.log(GROWTH)


class Histogram:
    """Counts of durations in seconds, from a microsecond to a minute; shorter and longer ones go to the ends."""

    __slots__ = ("_counts", "count", "max_s")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.max_s = 0.0

    def record(self, duration_s: float) -> None:
        """Count one duration."""
        index = int(math.log(duration_s / SMALLEST_S) / _LOG) + 1 if duration_s > SMALLEST_S else 0
        self._counts[min(index, BUCKETS - 1)] += 1
        self.count += 1
        self.max_s = max(self.max_s, duration_s)

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that `share` (0 to 1) of all stay within; None when there are none."""
        if self.count == 0:
            return None
        rank = max(1, math.ceil(share * self.count))
        for index, count in enumerate(self._counts):
            rank -= count
            if rank <= 0:
                return min(SMALLEST_S * GROWTH**index, self.max_s)
        return self.max_s

    def as_dict(self) -> dict[str, float | int | None]:
        """``{"count", "p50_ms", "p99_ms", "max_ms"}``."""
        p50, p99 = self.quantile(0.5), self.quantile(0.99)
        return {
            "count": self.count,
            "p50_ms": None if p50 is None else round(p50 * 1000, 4),
            "p99_ms": None if p99 is None else round(p99 * 1000, 4),
            "max_ms": round(self.max_s * 1000, 4) if self.count else None,
        }
