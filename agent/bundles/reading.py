"""Reads of media that may never answer: in threads of their own, which whoever waits can leave behind.

A stick that dies, or a share that is gone, holds a thread for as long as the kernel likes. Such a thread is one of a few
that nothing else needs; what asks it gives up after a while, and asks nothing more in that folder until it has come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.errors import Busy, TimedOut

log = logging.getLogger("agent.bundles.reading")

STALL_S: Final = 60.0
MOST: Final = 24

T = TypeVar("T")
_Asked = tuple[Future[Any], Callable[[], Any]]


class Reading:
    """The reads of one path, in order. `stall_s`: the longest that one may take."""

    def __init__(self, path: Path, stall_s: float, over: Callable[[Reading], None]) -> None:
        self.folder = path.parent
        self.hangs = False
        self._path = path
        self._stall_s = stall_s
        self._over = over
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] | None = set()
        # A daemon: the end of the agent does not wait for it.
        threading.Thread(target=self._serve, name="bundle-read", daemon=True).start()

    def ask(self, work: Callable[[], T]) -> T:
        """What `work` gives. TimedOut ``bundle.slow``. Blocks: for threads only."""
        try:
            return self._submit(work).result(self._stall_s)
        except TimeoutError:
            raise self._give_up() from None

    async def wait_for(self, work: Callable[[], T]) -> T:
        """As `ask`, for the loop."""
        try:
            async with asyncio.timeout(self._stall_s):
                return await asyncio.wrap_future(self._submit(work))
        except TimeoutError:
            raise self._give_up() from None

    def each(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """`pieces`, each of them asked for."""
        while piece := self.ask(lambda: next(pieces, b"")):
            yield piece

    def close(self) -> None:
        """Nothing more is asked; who still waits for an answer is let go."""
        with self._lock:
            waiting, self._waiting = self._waiting or set(), None
            self._queue.put(None)
        for future in waiting:
            future.cancel()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._waiting is None:
                raise CancelledError
            self._waiting.add(future)
            self._queue.put((future, work))
        return future

    def _give_up(self) -> TimedOut:
        if not self.hangs:
            log.warning("bundle_read_hangs path=%r after_s=%g", str(self._path), self._stall_s)
        self.hangs = True
        return _slow(self._path, self._stall_s)

    def _serve(self) -> None:
        try:
            while (asked := self._queue.get()) is not None:
                future, work = asked
                given: Any = None
                failure: BaseException | None = None
                try:
                    given = work()
                except BaseException as error:
                    failure = error
                with self._lock:
                    (self._waiting or set()).discard(future)
                with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
                    future.set_result(given) if failure is None else future.set_exception(failure)
        finally:
            self._over(self)


class Readings:
    """All that are open. `most` threads at once; of a folder in which one hangs, nothing more is asked."""

    def __init__(self, stall_s: float = STALL_S, most: int = MOST) -> None:
        self._stall_s = stall_s
        self._most = most
        self._lock = threading.Lock()
        self._open: set[Reading] = set()

    @contextlib.contextmanager
    def of(self, path: Path) -> Iterator[Reading]:
        """The reads of `path`, inside. TimedOut ``bundle.slow`` at once where its folder hangs; Busy ``bundle.busy``."""
        with self._lock:
            if any(each.hangs and each.folder == path.parent for each in self._open):
                raise _slow(path, self._stall_s)
            if len(self._open) >= self._most:
                raise Busy("bundle.busy", f"{self._most} bundles are being read", hint="it is tried again")
            reading = Reading(path, self._stall_s, self._forget)
            self._open.add(reading)
        try:
            yield reading
        finally:
            reading.close()

    def _forget(self, reading: Reading) -> None:
        with self._lock:
            self._open.discard(reading)


def _slow(path: Path, stall_s: float) -> TimedOut:
    hint = "is the stick sound? copy the bundle to the gateway's own disk"
    return TimedOut("bundle.slow", f"{path} cannot be read: no answer for {stall_s:g} s", hint=hint)
