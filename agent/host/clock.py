"""The machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """Wall and monotonic time. `floor_ms` is the later of build date and last time seen."""

    def __init__(self, floor_ms: int) -> None:
        self._floor_ms = floor_ms

    def raise_floor(self, floor_ms: int) -> None:
        """The wall clock was seen at `floor_ms`: it cannot be earlier now."""
        self._floor_ms = max(self._floor_ms, floor_ms)

    def now_ms(self) -> int:
        """Epoch ms, as the wall clock says."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def sane(self) -> bool:
        """False while the wall clock is before the floor."""
        return self.now_ms() >= self._floor_ms
