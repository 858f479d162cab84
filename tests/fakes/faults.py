"""Faults on demand, shared by the fakes."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from agent.errors import GatewayError


class Gate:
    """A call that waits until the test lets it go. `reached` is set when the call stands at the gate."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let the call go on."""
        self._open.set()

    async def wait(self) -> None:
        """Stand here until it opens."""
        self.reached.set()
        await self._open.wait()


class Faults:
    """Errors and pauses planned per operation name."""

    def __init__(self) -> None:
        self._errors: dict[str, deque[GatewayError]] = defaultdict(deque)
        self._gates: dict[str, deque[Gate]] = defaultdict(deque)

    def fail_next(self, op: str, error: GatewayError, times: int = 1) -> None:
        """The next `times` calls of `op` raise `error`."""
        self._errors[op].extend([error] * times)

    def planned(self, op: str) -> int:
        """How many calls of `op` are still to fail."""
        return len(self._errors[op])

    def pause(self, op: str) -> Gate:
        """The next call of `op` waits at the returned gate before it does anything."""
        gate = Gate()
        self._gates[op].append(gate)
        return gate

    def clear(self) -> None:
        """No more errors."""
        self._errors.clear()

    async def pass_through(self, op: str) -> None:
        """Called by the fake at the start of `op`."""
        if self._gates[op]:
            await self._gates[op].popleft().wait()
        if self._errors[op]:
            raise self._errors[op].popleft()
