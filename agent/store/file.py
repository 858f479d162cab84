"""One database file: locked, opened, judged, begun anew when it is damaged, written again when somebody takes it away.

Synchronous; `Database` calls it in its writer thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.errors import Conflict, Failed, Refused
from agent.store.damage import COMPANIONS, Damaged, Mended, set_aside, tells_damage
from agent.store.disk import explain, sync_folder
from agent.store.wal import WalReading, read_wal

log = logging.getLogger("agent.store.file")

# WAL needs a shared-memory file unless the lock is exclusive first; on a nearly full disk that file kills Python.
PRAGMAS = (
    ("locking_mode=EXCLUSIVE", "exclusive"),
    ("journal_mode=WAL", "wal"),
    ("synchronous=FULL", None),
    ("foreign_keys=ON", None),
    ("wal_autocheckpoint=256", None),
)
# With the format's number in it too, a flipped bit in `user_version` is not taken for a newer agent's file.
MARK = 0x45430000


class Keeper(Protocol):
    """Who knows what must be in the file. Both are called in the writer thread."""

    def check(self, connection: sqlite3.Connection, wal: WalReading) -> None:
        """Look at a file that was opened. Damaged: it is not what was written."""
        ...

    def fill(self, connection: sqlite3.Connection, aside: Path | None) -> str | None:
        """Fill a new file, inside its first transaction. What is lost, in words; None when it is simply a first start."""
        ...


class DatabaseFile:
    """`open`, then use `connection`; `tell` hears of each time the file was begun anew or written again."""

    def __init__(
        self, path: Path, migrations: Sequence[str], keeper: Keeper | None, tell: Callable[[Mended], None]
    ) -> None:
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self._migrations = migrations
        self._keeper = keeper
        self._tell = tell
        self._lock = -1
        self._inodes: dict[str, tuple[int, int]] = {}

    def open(self) -> None:
        """Conflict: another agent holds it. Refused: a newer agent wrote it. Damage is mended and told."""
        self._lock = self._take_lock()
        try:
            self.connection = self._open_sound()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and give the lock back."""
        if self.connection is not None:
            _close(self.connection)
            self.connection = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def ready(self) -> sqlite3.Connection:
        """The connection to work on: on our own file, which is mended first where that is needed."""
        if self.connection is None:
            self.connection = self._begin_anew("it could not be opened again")
        self.look()
        return self.connection

    def look(self) -> None:
        """Write the file again if somebody deleted or replaced it."""
        if self.connection is not None and not self._is_ours():
            held, self.connection = self.connection, None  # should it fail half-way, `ready` begins anew
            self.connection = self._write_again(held)

    def mend(self, reason: str) -> None:
        """The open file is damaged: set it aside and begin anew. Where a full disk forbids that, `ready` tries again."""
        aside = set_aside(self.path)  # before closing, which would tidy up the evidence
        if self.connection is not None:
            _close(self.connection)
        self.connection = None
        self.connection = self._begin_anew(reason, aside)

    def _take_lock(self) -> int:
        """Beside the database, not on it: a second agent must be refused also while the file is damaged or gone."""
        descriptor = -1
        try:
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise in_use(self.path) from None
        except OSError as error:
            raise explain(error) from None
        return descriptor

    def _open_sound(self) -> sqlite3.Connection:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return self._begin_anew("it was empty" if self.path.exists() else "it was gone")
        connection = self._connect()
        try:
            self._judge(connection)
            return connection
        except Exception as error:
            if not tells_damage(error):
                connection.close()
                raise
            aside = set_aside(self.path)  # before closing, which would tidy up the evidence
            _close(connection)
            return self._begin_anew(str(error), aside)

    def _begin_anew(self, reason: str, aside: str = "") -> sqlite3.Connection:
        """Put away whatever stands there, make a new file and let the keeper fill it."""
        if self._is_blank():
            self._unlink()  # a first start that was cut off: nothing to keep
        aside = set_aside(self.path) or aside
        connection = self._connect()
        try:
            self._prepare(connection)
            lost = None
            if self._keeper is not None:
                connection.execute("BEGIN IMMEDIATE")
                lost = self._keeper.fill(connection, self.path.with_name(aside) if aside else None)
                connection.execute("COMMIT")
        except BaseException:
            _close(connection)
            self._unlink()  # half a file of our own is no evidence
            raise
        if lost is not None or aside:
            self._tell(Mended(self.path.name, reason, aside, lost or "what stood in it is lost"))
        return connection

    def _unlink(self) -> None:
        for suffix in COMPANIONS:
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def _is_blank(self) -> bool:
        """True when there is no byte in the file and its log."""
        sizes = [path.stat().st_size for path in (self.path, Path(f"{self.path}-wal")) if path.exists()]
        return bool(sizes) and not any(sizes)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=2.0)
        self._inodes = {}
        with contextlib.suppress(OSError):
            self._inodes[""] = _inode(self.path)
        return connection

    def _judge(self, connection: sqlite3.Connection) -> None:
        """Damaged, or SQLite's own words for it, when the file is not sound."""
        self._set_pragmas(connection)
        wal = Path(f"{self.path}-wal")
        # The lock is ours by now. SQLite itself says nothing about commits that stand behind a bad byte.
        reading = read_wal(wal.read_bytes()) if wal.exists() else WalReading()
        if reading.lost:
            raise Damaged("store.damaged", f"{reading.after} commits in {wal.name} cannot be read")
        self._migrate(connection)
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise Damaged("store.damaged", f"{problem}")
        if self._keeper is not None:
            self._keeper.check(connection, reading)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._set_pragmas(connection)
        self._migrate(connection)
        with contextlib.suppress(OSError):
            self._inodes[""] = _inode(self.path)
            sync_folder(self.path.parent)

    def _set_pragmas(self, connection: sqlite3.Connection) -> None:
        for pragma, expected in PRAGMAS:
            row = connection.execute(f"PRAGMA {pragma}").fetchone()
            if expected is not None and (row is None or row[0] != expected):
                raise Failed("store.pragma", f"{self.path.name}: PRAGMA {pragma} answered {row}")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
        known = len(self._migrations)
        if version < 0 or (version > known and mark != MARK | version):
            raise Damaged("store.damaged", f"its format number is {version}, which no agent writes")
        if version > known:
            raise Refused(
                "store.newer",
                f"{self.path.name} has format {version}; this agent knows {known}",
                hint="install the agent that wrote it, or restore a backup",
            )
        for number in range(version, known):
            after = f"PRAGMA user_version={number + 1}; PRAGMA application_id={MARK | (number + 1)}"
            try:
                connection.executescript(f"BEGIN IMMEDIATE; {self._migrations[number]}; {after}; COMMIT;")
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
                    raise
                raise Damaged("store.damaged", f"format {number} cannot become {number + 1}: {error}") from None

    # ---- a file that is taken away while it is open ------------------------------------------------------------

    def _is_ours(self) -> bool:
        """False when the file or its log was deleted or replaced: what is committed then would be gone with the process."""
        for suffix in ("", "-wal"):
            try:
                found = _inode(Path(f"{self.path}{suffix}"))
            except OSError:
                if suffix in self._inodes:
                    return False
                continue
            if self._inodes.setdefault(suffix, found) != found:
                return False
        return True

    def _write_again(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Everything is still there behind the open files: write it to a new one. The old connection when that fails."""
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            beside.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(beside)) as copy:
                connection.backup(copy)
        except (sqlite3.Error, OSError) as error:
            log.warning("file_taken_away name=%s written_again=no reason=%s", self.path.name, error)
            return connection
        aside = set_aside(self.path)
        _close(connection)
        beside.rename(self.path)
        again = self._connect()
        self._prepare(again)
        reason = "it was deleted or replaced while the agent ran"
        self._tell(Mended(self.path.name, reason, aside, "nothing is lost"))
        return again


def in_use(path: Path) -> Conflict:
    """What a second agent on the same file hears."""
    return Conflict("store.in_use", f"another agent uses {path.name}", hint="stop it, or choose another --state")


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _close(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()
