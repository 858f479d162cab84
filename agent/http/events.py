"""Server-Sent Events with a bound: a reader that does not read is cut, never buffered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
"""No length and no chunks: the stream ends with the connection, so an event costs one write and nothing around it."""

BEAT = b":\n\n"


class EventSink:
    """The server's `Sink`. One write to the socket an event, at once."""

    __slots__ = ("_cut", "_drained", "_limit_bytes", "_transport", "closed")

    def __init__(self, transport: asyncio.Transport, limit_bytes: int, cut: Callable[[], None]) -> None:
        self._transport = transport
        self._limit_bytes = limit_bytes
        self._cut = cut
        self._drained: asyncio.Future[None] | None = None
        self.closed = False

    def send(self, event: str, data: bytes, event_id: str = "") -> None:
        """Write one event; `data` is one line."""
        head = f"event: {event}\nid: {event_id}\ndata: " if event_id else f"event: {event}\ndata: "
        self.write(head.encode() + data + b"\n\n")

    def beat(self) -> None:
        """Write a comment, so that both ends notice a dead peer."""
        self.write(BEAT)

    def write(self, frame: bytes) -> None:
        """Write one complete frame unless that would exceed the bound."""
        if self.closed:
            return
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes and unsent_bytes + len(frame) > self._limit_bytes:
            self.close()
            self._cut()
            return
        self._transport.write(frame)

    async def ready(self) -> None:
        """Return when nothing is left unsent in this process, or the stream is closed."""
        while not self.closed and self._transport.get_write_buffer_size() > 0:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def drained(self) -> None:
        """The transport took everything."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def close(self) -> None:
        """Nothing is written any more."""
        self.closed = True
        self.drained()
