"""From the broker into the store: many messages a commit, and each acknowledged only after it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.ports import CloudLink, Incoming
from cloud_stub.store import Received, Store

log = logging.getLogger(__name__)

T = TypeVar("T")
_GROUP_MAX = 64
_RETRY_S = 1.0


class Writer:
    """The one thread that writes to the store."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` after all that was asked before."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Finish what was asked, and end."""
        self._executor.shutdown(wait=True)


class Pulse:
    """Wakes everyone who waits for news."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """There is news."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, within_s: float) -> None:
        """Until there is news, or for `within_s`."""
        event = self._event
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            return


class Receiver:
    """Takes messages from the link for ever. What cannot be committed is tried again, and stays the broker's."""

    def __init__(self, link: CloudLink, store: Store, writer: Writer, pulse: Pulse) -> None:
        self._link = link
        self._store = store
        self._writer = writer
        self._pulse = pulse
        # Small: what waits here is bounded by the link's own bound on un-acknowledged messages.
        self._waiting: asyncio.Queue[Incoming] = asyncio.Queue(maxsize=_GROUP_MAX)

    async def run(self) -> None:
        """Until cancelled, or until the link has stopped and all is kept."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keep_on())
            async for message in self._link.messages():
                await self._waiting.put(message)
            await self._waiting.join()
            keeping.cancel()

    async def _keep_on(self) -> None:
        while True:
            group = [await self._waiting.get()]
            while len(group) < _GROUP_MAX and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            await self._keep(group)
            for message in group:
                message.ack()
                self._waiting.task_done()
            self._pulse.beat()

    async def _keep(self, group: list[Incoming]) -> None:
        received = [Received(message.topic, message.payload, message.retained) for message in group]
        while True:
            try:
                await self._writer.run(lambda: self._store.keep(received, time.time_ns() // 1_000_000))
            except sqlite3.Error as error:
                log.warning("store.retry messages=%d error=%s", len(group), error)
                await asyncio.sleep(_RETRY_S)
            else:
                return
