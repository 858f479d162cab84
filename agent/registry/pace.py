"""How fast bytes may come, and how a fetch is stopped from outside. For threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from agent.errors import Failed

_BURST_S: Final = 0.25


class Bucket:
    """At most `rate_bytes_s` for all that draw from it together; 0: no cap."""

    def __init__(self, rate_bytes_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate_bytes_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._free_at_s = 0.0

    def draw(self, size_bytes: int) -> float:
        """Take this many bytes; the seconds to wait before the next are taken."""
        if not self._rate:
            return 0.0
        with self._lock:
            now_s = self._monotonic()
            self._free_at_s = max(self._free_at_s, now_s - _BURST_S) + size_bytes / self._rate
            return max(0.0, self._free_at_s - now_s)


class Stopped(Exception):
    """The fetch was cancelled."""


class Stop:
    """A switch that ends a thread's waiting and reading at once."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._cuts: list[Callable[[], None]] = []

    def set(self) -> None:
        """End it."""
        with self._lock:
            self._set.set()
            cuts = list(self._cuts)
        for cut in cuts:
            # Already over, or not begun: whatever reads next looks at the switch first.
            with contextlib.suppress(OSError, RuntimeError, ValueError, Failed):
                cut()

    def check(self) -> None:
        """Raise Stopped when it was set."""
        if self._set.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep, or raise Stopped."""
        if self._set.wait(seconds):
            raise Stopped

    @contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """While inside, `set` also calls `cut`."""
        with self._lock:
            self._cuts.append(cut)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._cuts.remove(cut)
