"""A place in a room that holds a few, given to others while its holder only waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self


class Place:
    """``async with Place(room) as place``: one of the places that the semaphore `room` counts."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room = room
        self._held = False

    async def __aenter__(self) -> Self:
        await self._room.acquire()
        self._held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Inside, others may have the place. Afterwards it is waited for again; who is cancelled then holds none."""
        self._leave()
        try:
            yield
        finally:
            await self.__aenter__()

    def _leave(self) -> None:
        if self._held:
            self._held = False
            self._room.release()
