"""One SQLite file, one writer thread, group commits with full sync.

Everything that reaches this file goes through `Database.run`: functions queue up, the thread runs as many as wait
inside one transaction, and their callers resume after the commit that holds them. A function that raises is undone
alone (savepoint). Nothing here ever runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent.errors import Busy, Conflict, Failed, GatewayError, NoSpace, Refused

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

# WAL needs a shared-memory file unless the lock is exclusive first; on a nearly full disk that file kills Python.
PRAGMAS = (
    ("locking_mode=EXCLUSIVE", "exclusive"),
    ("journal_mode=WAL", "wal"),
    ("synchronous=FULL", None),
    ("foreign_keys=ON", None),
    ("wal_autocheckpoint=256", None),
)
MAX_GROUP = 512
MAX_WAITING = 20_000


@dataclass(slots=True)
class _Item:
    work: Work
    writes: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Database:
    """A file opened by `open`, written by `run`, closed by `close`. `migrations[n]` brings version n to n + 1."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self._path = path
        self._migrations = migrations
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0

    async def open(self) -> None:
        """Open or make the file. Conflict: another agent holds it. Refused: a newer agent wrote it."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name=f"db-{self._path.stem}", daemon=True)
        self._thread.start()
        await ready

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once that is on disk. NoSpace when the disk is full."""
        result: T = await self.submit(work)
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which must only read, between two transactions."""
        result: T = await self._enqueue(work, writes=False)
        return result

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """As `run`, without waiting: the future ends after the commit. Order of submission is order of execution."""
        return self._enqueue(work, writes=True)

    def _enqueue(self, work: Work, *, writes: bool) -> asyncio.Future[Any]:
        if self._loop is None or self._thread is None:
            raise Failed("store.closed", f"{self._path.name} is not open")
        if self._queue.qsize() > MAX_WAITING:
            raise Busy("store.busy", f"{MAX_WAITING} writes wait for {self._path.name}", hint="the disk is too slow")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Item(work, writes, future))
        return future

    # ---- the writer thread -------------------------------------------------------------------------------------

    def _serve(self, ready: asyncio.Future[None]) -> None:
        assert self._loop is not None
        try:
            connection = self._connect()
        except Exception as error:
            self._loop.call_soon_threadsafe(ready.set_exception, self._translate(error))
            return
        self._loop.call_soon_threadsafe(ready.set_result, None)
        open_ = True
        while open_:
            group: list[_Item] = []
            item = self._queue.get()
            while item is not None:
                group.append(item)
                if len(group) == MAX_GROUP or self._queue.empty():
                    break
                item = self._queue.get()
            open_ = item is not None
            if group:
                self._execute(connection, group)
                self._deliver(group)
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=2.0)
        for pragma, expected in PRAGMAS:
            row = connection.execute(f"PRAGMA {pragma}").fetchone()
            if expected is not None and (row is None or row[0] != expected):
                raise Failed("store.pragma", f"{self._path.name}: PRAGMA {pragma} answered {row}")
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(self._migrations):
            raise Refused(
                "store.newer",
                f"{self._path.name} has format {version}; this agent knows {len(self._migrations)}",
                hint="install the agent that wrote it, or restore a backup",
            )
        for number in range(version, len(self._migrations)):
            script = f"BEGIN IMMEDIATE; {self._migrations[number]}; PRAGMA user_version={number + 1}; COMMIT;"
            connection.executescript(script)
        return connection

    def _execute(self, connection: sqlite3.Connection, group: list[_Item]) -> None:
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
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for item in group:
                item.error = item.error or self._translate(error)

    def _execute_one(self, connection: sqlite3.Connection, item: _Item, *, inside: bool) -> None:
        if inside:
            connection.execute("SAVEPOINT item")
        try:
            item.result = item.work(connection)
        except Exception as error:
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
        if isinstance(error, GatewayError) or not isinstance(error, sqlite3.Error):
            return error
        name = getattr(error, "sqlite_errorname", "") or ""
        where = self._path.name
        if name.startswith("SQLITE_FULL"):
            return NoSpace("store.full", f"no space left to write {where}", hint="free space; nothing was changed")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Conflict("store.in_use", f"another agent uses {where}", hint="stop it, or choose another --state")
        hint = "check the disk and its rights"
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            hint = "restore it, or move it away: the agent then begins anew, and what runs goes on"
        return Failed("store.failed", f"{self._path}: {error}", hint=hint, engine=name)
