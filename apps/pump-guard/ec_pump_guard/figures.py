"""How quickly the loop acts: from a value's arrival to the driver's word that the valve has moved."""

from __future__ import annotations

from collections import deque


class Reactions:
    """The last ones, in milliseconds."""

    def __init__(self, keep: int = 2048) -> None:
        self.count = 0
        self._recent: deque[float] = deque(maxlen=keep)

    def add(self, elapsed_ms: float) -> None:
        """Count one."""
        self.count += 1
        self._recent.append(elapsed_ms)

    def summary(self) -> dict[str, float]:
        """count, p50_ms, p99_ms, max_ms of the last ones; only the count where there are none."""
        if not self._recent:
            return {"count": self.count}
        ordered = sorted(self._recent)
        return {
            "count": self.count,
            "p50_ms": round(ordered[len(ordered) // 2], 3),
            "p99_ms": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 3),
            "max_ms": round(ordered[-1], 3),
        }
