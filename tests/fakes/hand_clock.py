"""A clock and timers wound by hand."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

START_MS = 1_795_000_000_000


class HandClock:
    """Wall and monotonic time, moved by `advance`; `jump` moves the wall clock alone."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.wall_ms = float(now_ms)
        self.mono_s = 1_000.0
        self.right = True

    def now_ms(self) -> int:
        """Epoch ms."""
        return int(self.wall_ms)

    def monotonic(self) -> float:
        """Seconds."""
        return self.mono_s

    def sane(self) -> bool:
        """As `right` says."""
        return self.right

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone."""
        self.wall_ms += seconds * 1000


class ShiftedClock:
    """The machine's time from `now_ms` on; `jump` sets the wall clock, `right` says whether it can be believed."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._shift_ms = now_ms - time.time() * 1000
        self.right = True

    def now_ms(self) -> int:
        """Epoch ms."""
        return int(time.time() * 1000 + self._shift_ms)

    def monotonic(self) -> float:
        """Seconds that go on, whatever the wall clock does."""
        return time.monotonic()

    def sane(self) -> bool:
        """As `right` says."""
        return self.right

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._shift_ms += seconds * 1000


class _Call:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def fire(self) -> None:
        if self.call is not None:
            self.call()


class HandTimers:
    """Timers that fire when `advance` carries the clock past them, in order.

    What a call raises keeps no other from its time; `advance` raises the first of it at its end.
    """

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._calls: list[tuple[float, int, _Call]] = []
        self._ids = itertools.count()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> _Call:
        """Call once, `delay_s` from now."""
        handle = _Call(call)
        heapq.heappush(self._calls, (self._clock.mono_s + delay_s, next(self._ids), handle))
        return handle

    def advance(self, seconds: float) -> None:
        """Let time pass, and fire what becomes due on the way."""
        end_s = self._clock.mono_s + seconds
        errors: list[Exception] = []
        while self._calls and self._calls[0][0] <= end_s:
            due_s, _, handle = heapq.heappop(self._calls)
            self._pass(max(due_s - self._clock.mono_s, 0.0))
            try:
                handle.fire()
            except Exception as error:
                errors.append(error)
        self._pass(end_s - self._clock.mono_s)
        if errors:
            raise errors[0]

    def _pass(self, seconds: float) -> None:
        self._clock.mono_s += seconds
        self._clock.wall_ms += seconds * 1000
