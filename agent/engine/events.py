"""The engine's event stream, for ever: read by a thread of its own, opened again whenever it ends."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import requests

from agent.engine.client import EngineClient, allow_silence, check, json_lines, stop_reading
from agent.engine.observed import read_event
from agent.engine.translate import translate
from agent.errors import GatewayError
from agent.ports import EngineEvent

# Not `exec_*`: each health probe makes three of them, and an idle gateway shall be idle.
_ACTIONS: Final = (
    "connect", "create", "destroy", "die", "disconnect", "health_status", "kill", "oom", "pause", "rename", "restart", "start",
    "stop", "unpause", "update",
)  # fmt: skip
_OPEN_WITHIN_S: Final = 20.0
_CAPACITY: Final = 1024
_FIRST_WAIT_S: Final = 0.2
_LAST_WAIT_S: Final = 5.0
_JOIN_WITHIN_S: Final = 2.0


async def follow_events(
    client: EngineClient,
    gateway_id: str,
    connected: Callable[[], Awaitable[None]],
    owner_of: Callable[[str], tuple[str, str] | None],
) -> AsyncIterator[EngineEvent | None]:
    """Container events of the gateway; None whenever the stream was opened anew or events may be missing.

    `connected` is awaited before each None. `owner_of` tells (instance, service) of a container that was seen before:
    networks' events carry no labels, which is also why all that happens on the engine is read and sorted here.
    A stream that breaks is opened again with a growing pause, from the last event's time, so that a short gap loses
    nothing that the engine still remembers.
    """
    since_ns = 0
    wait_s = _FIRST_WAIT_S
    while True:
        reader = _Reader(client, gateway_id, since_ns)
        try:
            await reader.open()
            await connected()
            wait_s = _FIRST_WAIT_S
            yield None
            while (batch := await reader.next_batch()) is not None:
                if reader.take_overflow():
                    yield None
                for event in batch:
                    if event.time_ns <= since_ns:
                        continue
                    since_ns = event.time_ns
                    if event.instance:
                        yield event
                    elif (owner := owner_of(event.container_id)) is not None:
                        yield replace(event, instance=owner[0], service=owner[1])
        except GatewayError:
            # Told by every other call too; here it only means: not connected yet.
            wait_s = min(_LAST_WAIT_S, wait_s * 2)
        finally:
            await reader.close()
        await asyncio.sleep(wait_s * random.uniform(0.75, 1.25))


class _Reader:
    """One opening of the stream. Bounded: when the loop is too slow, the oldest are dropped and that is told."""

    def __init__(self, client: EngineClient, gateway_id: str, since_ns: int) -> None:
        self._client = client
        self._gateway_id = gateway_id
        self._since_ns = since_ns
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._arrived = asyncio.Event()
        self._waiting: list[EngineEvent] = []
        self._overflowed = False
        self._ended = False
        self._response: requests.Response | None = None
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="engine-events", daemon=True)

    async def open(self) -> None:
        """Return when the engine has begun to answer: no event after that can be missed. Raises `agent.errors`."""
        self._thread.start()
        await self._opened

    async def next_batch(self) -> list[EngineEvent] | None:
        """The events that have come; None when the stream has ended."""
        while not self._waiting:
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        batch, self._waiting = self._waiting, []
        return batch

    def take_overflow(self) -> bool:
        """True once after events were dropped."""
        overflowed, self._overflowed = self._overflowed, False
        return overflowed

    async def close(self) -> None:
        """End the thread. One that hangs on a frozen engine is left behind: it ends by its socket timeout."""
        with self._lock:
            self._closing = True
            response = self._response
        if response is not None:
            stop_reading(response)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, _JOIN_WITHIN_S)
        if self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # seen: a reader closed before anyone awaited it is no news

    def _read(self) -> None:
        try:
            response = self._request()
            with self._lock:
                if self._closing:
                    response.close()
                    return
                self._response = response
            # The engine answers at once; from here on silence is normal.
            allow_silence(response)
            self._tell(self._mark_open, None)
            with response:
                for document in json_lines(response):
                    if (event := read_event(document, self._gateway_id)) is not None:
                        self._tell(self._take, event)
        except Exception as error:
            self._tell(self._mark_open, translate(error, "following the engine's events"))
        finally:
            self._tell(self._end)

    def _request(self) -> requests.Response:
        api = self._client.connect()
        filters = {"type": ["container", "network"], "event": list(_ACTIONS)}
        params = {"filters": json.dumps(filters)}
        if self._since_ns:
            params["since"] = f"{self._since_ns // 10**9}.{self._since_ns % 10**9:09d}"
        return check(api.get(self._client.url(api, "/events"), params=params, stream=True, timeout=_OPEN_WITHIN_S))

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            return  # the loop has closed: nobody listens

    def _mark_open(self, error: GatewayError | None) -> None:
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _take(self, event: EngineEvent) -> None:
        self._waiting.append(event)
        if len(self._waiting) > _CAPACITY:
            del self._waiting[0]
            self._overflowed = True
        self._arrived.set()

    def _end(self) -> None:
        self._ended = True
        self._arrived.set()
