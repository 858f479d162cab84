"""Server-Sent Events with a bound: a reader that does not read is cut, never buffered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
"""No length and no chunks: the stream ends with the connection, so an event costs one write and nothing around it."""

BEAT = b":\n\n"


def encode_event(event: str, data: bytes, event_id: str = "") -> bytes:
    """One event as it stands on the wire; `data` is one line."""
    if event_id:
        return b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), event_id.encode(), data)
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


class EventSink:
    """The server's `Sink`. One write to the socket an event, at once."""

    __slots__ = ("_cut", "_drained", "_limit_bytes", "_transport", "closed", "on_ready")

    def __init__(self, transport: asyncio.Transport, limit_bytes: int, cut: Callable[[], None]) -> None:
        self._transport = transport
        self._limit_bytes = limit_bytes
        self._cut = cut
        self._drained: asyncio.Future[None] | None = None
        self.closed = False
        self.on_ready: Callable[[], None] | None = None

    def send(self, event: str, data: bytes, event_id: str = "") -> None:
        """Write one event; `data` is one line."""
        self.write(encode_event(event, data, event_id))

    @property
    def blocked(self) -> bool:
        """True while something written before has not left this process."""
        return self._transport.get_write_buffer_size() > 0

    def beat(self) -> None:
        """Write a comment, so that both ends notice a dead peer."""
        self.write(BEAT)

    def write(self, frame: bytes) -> None:
        """Write complete frames at once; what exceeds the bound while something is unsent cuts the reader."""
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
        if self.on_ready is not None and not self.closed:
            self.on_ready()

    def close(self) -> None:
        """Nothing is written any more."""
        self.closed = True
        self.drained()
