"""Event streams that come back by themselves: to iterate over, to await, or to have called in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Self, TypeVar

from ecsdk.errors import EsdkError
from ecsdk.wire import Connection, Wire, pause_s, read_answer

T = TypeVar("T")
MAX_REFUSED_S = 60.0
TAKEN = "esdk.stream_taken"
TAKEN_FROM = 3
"""The first pause after a stream was taken is that of this attempt: two that take it from each other get slower."""


class Stream(Generic[T]):
    """What happens, one thing after the other, for ever: after an agent restart it connects again, as it does,
    with growing pauses, when another listener of the same APP took it.

    Use it in one way at a time: ``for``, ``async for``, or `each`. Ends at `close`; raises EsdkError when the gateway
    refuses (a missing grant). What happens while it is not connected is missed, unless the gateway begins with what is.
    """

    def __init__(
        self, wire: Wire, target: str, event: str, read: Callable[[Any], T], *, silence_s: float = 45.0
    ) -> None:
        self.connected = False
        self.heard_s = time.monotonic()
        """Monotonic time of the last sign of life from the gateway."""
        self._wire = wire
        self._target = target
        self._event = event
        self._read = read
        self._silence_s = silence_s
        self._connection: Connection | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """End it, from any thread."""
        self._closed.set()
        connection = self._connection
        if connection is not None:
            connection.shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        attempt = taken = 0
        while not self._closed.is_set():
            try:
                for item in self._once():
                    attempt = taken = 0
                    yield item
            except EsdkError as error:
                # A full house empties, and who took a stream may be gone soon; a missing grant does not come by waiting.
                if error.code == TAKEN:
                    taken += 1
                    self._closed.wait(pause_s(TAKEN_FROM + taken))
                elif error.retry_after_s:
                    self._closed.wait(min(error.retry_after_s, MAX_REFUSED_S))
                else:
                    raise
            except (OSError, ValueError):
                pass
            self._closed.wait(pause_s(attempt))
            attempt += 1

    def _once(self) -> Iterator[T]:
        connection = self._connection = self._wire.connect()
        try:
            if self._closed.is_set():  # closed while we were connecting
                return
            connection.ask("GET", self._target, None)
            status, headers = connection.read_head()
            if status != 200:
                size = int(headers.get("content-length", "0"))
                read_answer(status, connection.read_body(size))
            self.connected = True
            self.heard_s = time.monotonic()
            for frame in connection.frames(self._silence_s):
                self.heard_s = time.monotonic()
                event, data = _parse(frame)
                if event == self._event:
                    yield self._read(json.loads(data))
                elif event == "problem":
                    raise EsdkError(int(json.loads(data)["status"]), json.loads(data))
                elif event == "end":
                    raise EsdkError(409, {"code": TAKEN, "title": json.loads(data)["reason"]})
                if self._closed.is_set():
                    return
        finally:
            self.connected = False
            self._connection = None
            connection.close()

    def each(self, call: Callable[[T], None], *, name: str = "ecsdk stream") -> threading.Thread:
        """Call `call` with each item in a thread of its own; the thread ends at `close` or at a refusal."""
        thread = threading.Thread(target=self._run, args=(call,), name=name, daemon=True)
        thread.start()
        return thread

    def _run(self, call: Callable[[T], None]) -> None:
        for item in self:
            call(item)

    async def __aiter__(self) -> AsyncIterator[T]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[T | BaseException | None] = asyncio.Queue()

        def pump() -> None:
            last: BaseException | None = None
            try:
                for item in self:
                    loop.call_soon_threadsafe(queue.put_nowait, item)
            except EsdkError as error:
                last = error
            # The loop may be closed already: then nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, last)

        threading.Thread(target=pump, name="ecsdk stream", daemon=True).start()
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.close()


def _parse(frame: bytes) -> tuple[str, bytes]:
    event, data = "message", b""
    for line in frame.split(b"\n"):
        if line.startswith(b"event: "):
            event = line[7:].decode("ascii", "replace")
        elif line.startswith(b"data: "):
            data = line[6:]
    return event, data
