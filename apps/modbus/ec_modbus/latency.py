"""How long writes take: exact percentiles of the last ones, and a histogram of all."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

BOUNDS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)


class Latency:
    """Milliseconds from a command's arrival to its register read back. Safe to use from several threads."""

    def __init__(self, keep: int = 4096) -> None:
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=keep)
        self._buckets = [0] * (len(BOUNDS_MS) + 1)
        self._count = 0
        self._max = 0.0

    def add(self, elapsed_ms: float) -> None:
        """Count one write."""
        with self._lock:
            self._recent.append(elapsed_ms)
            self._count += 1
            self._max = max(self._max, elapsed_ms)
            self._buckets[next((i for i, bound in enumerate(BOUNDS_MS) if elapsed_ms <= bound), len(BOUNDS_MS))] += 1

    @property
    def count(self) -> int:
        """How many there were."""
        with self._lock:
            return self._count

    def summary(self) -> dict[str, Any]:
        """count, p50_ms, p99_ms, max_ms and the histogram: upper bound in ms (`le_5`) -> how many up to it."""
        with self._lock:
            ordered, count, worst = sorted(self._recent), self._count, self._max
            buckets = list(self._buckets)
        if not ordered:
            return {"count": 0}
        histogram = {f"le_{bound:g}": many for bound, many in zip(BOUNDS_MS, buckets, strict=False) if many}
        if buckets[-1]:
            histogram["more"] = buckets[-1]
        return {
            "count": count,
            "p50_ms": round(_rank(ordered, 0.5), 3),
            "p99_ms": round(_rank(ordered, 0.99), 3),
            "max_ms": round(worst, 3),
            "histogram_ms": histogram,
        }


def _rank(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
