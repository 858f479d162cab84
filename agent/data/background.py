"""A task that exists only while there is work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Background:
    """Runs `work` in a task of its own whenever it was kicked; `work` returns when nothing is left to do."""

    def __init__(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._work = work
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def kick(self) -> None:
        """There is work. Must be called in the loop."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"data.{self._name}")

    @property
    def running(self) -> bool:
        """True while there is work."""
        return self._task is not None and not self._task.done()

    async def idle(self) -> None:
        """Wait until there is none."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Cancel what runs."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._again:
            self._again = False
            try:
                await self._work()
            except Exception:
                log.exception("task_failed name=%s", self._name)
