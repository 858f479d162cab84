"""Calling something later, on the monotonic clock. An asyncio loop fits `Timers`; tests bring a hand-wound one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """A call that waits."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """`call_later(delay_s, call)` calls once, in the loop's thread."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Handle: ...


class LoopTimers:
    """Timers of the running asyncio loop."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Handle:
        """Call after `delay_s` seconds; must be used inside the loop."""
        return asyncio.get_running_loop().call_later(delay_s, call)
