"""Between the network thread and the event loop: bounded, and without a lock that either side could wait for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from agent.ports import Incoming


class Inbound:
    """Messages on their way from the network thread to the loop; at most `max_count` and `max_bytes` of them wait.

    From half of that on there is no more `room`: time to stop reading. Each counter has one writer (the thread writes
    what was given, the loop what was taken), so none needs a lock.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._given_count = self._given_bytes = 0
        self._taken_count = self._taken_bytes = 0
        self._queue: asyncio.Queue[Incoming | None] = asyncio.Queue()

    @property
    def waiting(self) -> int:
        """Messages handed over and not yet taken."""
        return self._given_count - self._taken_count

    @property
    def room(self) -> bool:
        """False when the reader had better wait."""
        waiting_bytes = self._given_bytes - self._taken_bytes
        return 2 * self.waiting < self._max_count and 2 * waiting_bytes < self._max_bytes

    def reserve(self, size_bytes: int) -> bool:
        """Network thread: take a place for a message, False when there is none."""
        waiting_bytes = self._given_bytes - self._taken_bytes
        if self.waiting >= self._max_count or (self.waiting and waiting_bytes + size_bytes > self._max_bytes):
            return False
        self._given_count += 1
        self._given_bytes += size_bytes
        return True

    def put(self, message: Incoming) -> None:
        """Loop: a message with a reserved place has arrived."""
        self._queue.put_nowait(message)

    def close(self) -> None:
        """Loop: nothing more will come."""
        self._queue.put_nowait(None)

    async def take(self) -> Incoming | None:
        """Loop: the next message, None at the end."""
        message = await self._queue.get()
        if message is None:
            self._queue.put_nowait(None)
            return None
        self._taken_count += 1
        self._taken_bytes += len(message.payload)
        return message


class Changes:
    """Connects and disconnects for any number of listeners. A slow listener misses pairs, never the last word."""

    _MOST = 16

    def __init__(self) -> None:
        self._listeners: list[tuple[deque[bool], asyncio.Event]] = []
        self._connected = False
        self._closed = False

    def tell(self, connected: bool) -> None:
        """Loop: the link is up, or down."""
        self._connected = connected
        for words, event in self._listeners:
            words.append(connected)
            if len(words) > self._MOST:
                words.popleft()
                words.popleft()
            event.set()

    def close(self) -> None:
        """Loop: end every listener."""
        self._closed = True
        for _, event in self._listeners:
            event.set()

    def listen(self) -> AsyncIterator[bool]:
        """True at once when the link is up already; then every change. Nothing is missed from this call on."""
        words: deque[bool] = deque([True] if self._connected else [])
        event = asyncio.Event()
        if words:
            event.set()
        listener = (words, event)
        self._listeners.append(listener)
        return self._follow(listener)

    async def _follow(self, listener: tuple[deque[bool], asyncio.Event]) -> AsyncIterator[bool]:
        words, event = listener
        try:
            while True:
                while words:
                    yield words.popleft()
                if self._closed:
                    return
                event.clear()
                await event.wait()
        finally:
            # By identity: two listeners with the same words waiting are equal, and not the same.
            self._listeners[:] = [other for other in self._listeners if other is not listener]
