"""What an APP is asked to do, and the stream it takes that from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.domain.sample import SafeValue, Scalar
from agent.errors import Busy
from agent.ports import Clock

MAX_WAITING = 1024


@dataclass(frozen=True, slots=True)
class AppCommand:
    """A write meant for the APP that owns `point`. `address` is the driver's own part of the device file.

    `started_s` is the monotonic time of what caused it.
    """

    id: str
    point: str
    value: Scalar
    t_ms: int
    origin: str
    who: str
    device: str = ""
    address: tuple[tuple[str, Scalar], ...] = ()
    safe: SafeValue | None = None
    started_s: float = 0.0
    delivered: Callable[[float], None] | None = field(default=None, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The wire form on the APP's command stream."""
        body: dict[str, Any] = {
            "id": self.id, "type": "write", "point": self.point, "value": self.value, "t": self.t_ms,
            "origin": self.origin, "who": self.who, "device": self.device, "address": dict(self.address),
        }  # fmt: skip
        if self.safe is not None:
            body["safe"] = {"value": self.safe.value, "after_s": self.safe.after_s}
        return body


class CommandStream:
    """The commands of one listener: an async iterator that ends when it is replaced or detached. `caller` is its container.

    `on_ready`, if set, is called synchronously when a command comes; it calls `drain` and sends at once, which saves
    the turn of the loop that waking a task costs.
    """

    def __init__(self, instance: str, clock: Clock, caller: str = "") -> None:
        self.instance = instance
        self.caller = caller
        self.on_ready: Callable[[], None] | None = None
        self.ended = False
        self._clock = clock
        self._queue: deque[AppCommand] = deque()
        self._ready = asyncio.Event()

    def put(self, command: AppCommand) -> None:
        """Hand over one command. Busy: the listener does not take them."""
        if len(self._queue) >= MAX_WAITING:
            raise Busy(
                "write.queue_full", f"{MAX_WAITING} commands wait for '{self.instance}'",
                hint="the APP does not read its command stream", retry_after_s=1,
            )  # fmt: skip
        self._queue.append(command)
        self._ready.set()
        if self.on_ready is not None:
            self.on_ready()

    def drain(self) -> list[AppCommand]:
        """All that waits, oldest first; counts as delivered now."""
        commands: list[AppCommand] = []
        while self._queue:
            commands.append(self._take())
        return commands

    def end(self) -> None:
        """No more commands will come."""
        self.ended = True
        self._ready.set()
        if self.on_ready is not None:
            self.on_ready()

    def __aiter__(self) -> CommandStream:
        return self

    async def __anext__(self) -> AppCommand:
        while not self._queue:
            if self.ended:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._take()

    def _take(self) -> AppCommand:
        command = self._queue.popleft()
        if command.delivered is not None:
            command.delivered(self._clock.monotonic() - command.started_s)
        return command
