"""One SQLite file, one writer thread, group commits with full sync.

Everything that reaches this file goes through `Database.run`: functions queue up, the thread runs as many as wait
inside one transaction, and their callers resume after the commit that holds them. A function that raises is undone
alone (savepoint). Nothing here ever runs in the event loop's thread.

A file that turns out to be damaged, at the start or later, is set aside and begun anew by the same thread; a file that
somebody deletes or replaces while it is open is written anew from what is still held open. The file's keeper says what
goes into a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent.errors import Busy, Failed, GatewayError, NoSpace
from agent.store.damage import Damaged, Mended, tells_damage
from agent.store.disk import explain
from agent.store.file import DatabaseFile, Keeper, in_use

log = logging.getLogger("agent.store.database")

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

MAX_GROUP = 512
MAX_WAITING = 20_000
LOOK_EVERY_S = 5.0


@dataclass(slots=True)
class _Item:
    work: Work
    writes: bool
    future: asyncio.Future[Any]
    after: Callable[[Any], None] | None = None
    result: Any = None
    error: Exception | None = None


class Database:
    """A file opened by `open`, written by `run`, closed by `close`. `migrations[n]` brings version n to n + 1.

    `mended` are the times it was begun anew; whoever appends to `on_mended` hears of each, in the loop.
    """

    def __init__(self, path: Path, migrations: Sequence[str], keeper: Keeper | None = None) -> None:
        self._path = path
        self._migrations = migrations
        self._keeper = keeper
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0
        self.mended: list[Mended] = []
        self.on_mended: list[Callable[[Mended], None]] = []

    async def open(self) -> None:
        """Open or make the file. Conflict: another agent holds it. Refused: a newer agent wrote it."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name=f"db-{self._path.stem}", daemon=True)
        self._thread.start()
        try:
            await ready
        except BaseException:
            self._thread = None
            raise

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def run(self, work: Callable[[sqlite3.Connection], T], after: Callable[[T], None] | None = None) -> T:
        """Run `work` in a transaction and return its result once that is on disk. NoSpace when the disk is full.

        `after` is called with the result in the writer thread, in the order of the commits, also for a caller that went.
        """
        result: T = await self._enqueue(work, writes=True, after=after)
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which must only read, between two transactions."""
        result: T = await self._enqueue(work, writes=False)
        return result

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """As `run`, without waiting: the future ends after the commit. Order of submission is order of execution."""
        return self._enqueue(work, writes=True)

    def _enqueue(self, work: Work, *, writes: bool, after: Callable[[Any], None] | None = None) -> asyncio.Future[Any]:
        if self._loop is None or self._thread is None:
            raise Failed("store.closed", f"{self._path.name} is not open")
        if self._queue.qsize() > MAX_WAITING:
            raise Busy("store.busy", f"{MAX_WAITING} writes wait for {self._path.name}", hint="the disk is too slow")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Item(work, writes, future, after))
        return future

    # ---- the writer thread -------------------------------------------------------------------------------------

    def _serve(self, ready: asyncio.Future[None]) -> None:
        assert self._loop is not None
        file = DatabaseFile(self._path, self._migrations, self._keeper, self._tell)
        try:
            file.open()
        except Exception as error:
            self._loop.call_soon_threadsafe(ready.set_exception, self._translate(error))
            return
        self._loop.call_soon_threadsafe(ready.set_result, None)
        open_ = True
        while open_:
            group, open_ = self._take_group()
            if group:
                self._carry_out(file, group)
            else:
                try:
                    file.look()
                except Exception:
                    log.exception("state_file_not_looked_at name=%s", self._path.name)
        file.close()

    def _take_group(self) -> tuple[list[_Item], bool]:
        """What waits, at most one transaction's worth; False when this was the last."""
        group: list[_Item] = []
        try:
            item = self._queue.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            return group, True
        while item is not None:
            group.append(item)
            if len(group) == MAX_GROUP or self._queue.empty():
                return group, True
            item = self._queue.get()
        return group, False

    def _carry_out(self, file: DatabaseFile, group: list[_Item]) -> None:
        """Execute a group and tell its callers."""
        try:
            damage = self._execute(file.ready(), group)
        except Exception as error:
            damage = None
            for item in group:
                item.error = self._translate(error)
        if damage is not None:
            with contextlib.suppress(Exception):  # a full disk: `ready` tries again with the next group
                file.mend(str(damage))
        self._deliver(group)

    def _tell(self, mended: Mended) -> None:
        log.warning("mended %s", mended)
        assert self._loop is not None

        def tell() -> None:
            self.mended.append(mended)
            for listener in self.on_mended:
                listener(mended)

        self._loop.call_soon_threadsafe(tell)

    def _execute(self, connection: sqlite3.Connection, group: list[_Item]) -> Exception | None:
        """Run a group; the damage that it found, if any."""
        writes = any(item.writes for item in group)
        try:
            if writes:
                connection.execute("BEGIN IMMEDIATE")
            for item in group:
                self._execute_one(connection, item, inside=writes)
            if writes:
                connection.execute("COMMIT")
                self.commits += 1
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for item in group:
                item.error = item.error or self._translate(error)
            return error if tells_damage(error) else None
        for item in group:
            if item.after is not None and item.error is None:
                item.after(item.result)
        return None

    def _execute_one(self, connection: sqlite3.Connection, item: _Item, *, inside: bool) -> None:
        if inside:
            connection.execute("SAVEPOINT item")
        try:
            item.result = item.work(connection)
        except Exception as error:
            if tells_damage(error):
                raise  # nothing in this file can be relied on
            if not isinstance(error, GatewayError) and not connection.in_transaction and inside:
                raise  # the engine itself gave the whole transaction up (disk full, I/O error)
            item.error = self._translate(error)
            if inside:
                connection.execute("ROLLBACK TO item")
        if inside:
            connection.execute("RELEASE item")

    def _deliver(self, group: list[_Item]) -> None:
        assert self._loop is not None

        def settle() -> None:
            for item in group:
                if item.future.cancelled():
                    continue
                if item.error is not None:
                    item.future.set_exception(item.error)
                else:
                    item.future.set_result(item.result)

        self._loop.call_soon_threadsafe(settle)

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, OSError):
            return explain(error)
        if isinstance(error, GatewayError) or not isinstance(error, sqlite3.Error):
            return error
        name = getattr(error, "sqlite_errorname", "") or ""
        where = self._path.name
        if name.startswith("SQLITE_FULL"):
            return NoSpace("store.full", f"no space left to write {where}", hint="free space; nothing was changed")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return in_use(self._path)
        if tells_damage(error):
            hint = "it is set aside and begun anew; send the command again"
            return Damaged("store.damaged", f"{self._path}: {error}", hint=hint, engine=name)
        return Failed("store.failed", f"{self._path}: {error}", hint="check the disk and its rights", engine=name)
