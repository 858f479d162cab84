"""A database file that is no longer what was written: how it is told, and how it is put out of the way."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Failed
from agent.store.disk import sync_folder

KEEP_ASIDE = 3
ASIDE = ".corrupt-"
COMPANIONS = ("", "-wal", "-shm", "-journal")
_TELLING = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_READ")


class Damaged(Failed):
    """What is on the disk is not what was written. The file is set aside and begun anew: the caller may try again."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Mended:
    """A file that was begun anew. `aside` is the damaged one's new name ("" when there was none), `lost` is for people."""

    file: str
    reason: str
    aside: str
    lost: str

    def __str__(self) -> str:
        kept = f"; the old file is kept as {self.aside}" if self.aside else ""
        return f"{self.file} was made anew: {self.reason}{kept}; {self.lost}"


def tells_damage(error: BaseException) -> bool:
    """True when an error means that the file is damaged, not that the disk is full or somebody holds it."""
    if isinstance(error, Damaged):
        return True
    return isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorname", "") or "").startswith(_TELLING)


def set_aside(path: Path) -> str:
    """Rename a database with its companions out of the way; its new name, "" when there was nothing. At most 3 are kept."""
    name = _free_name(path)
    found = ""
    for suffix in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{name}{suffix}")
            found = name.name
    for old in sorted(asides(path), key=lambda each: each.stat().st_ctime_ns)[:-KEEP_ASIDE]:
        for suffix in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{old}{suffix}").unlink()
    sync_folder(path.parent)
    return found


def asides(path: Path) -> Iterator[Path]:
    """The databases set aside from `path`, without their companions."""
    for each in path.parent.glob(f"{path.name}{ASIDE}*"):
        if not each.name.endswith(COMPANIONS[1:]):
            yield each


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in range(1, 1000):
        again = f"-{number}" if number > 1 else ""
        name = path.with_name(f"{path.name}{ASIDE}{stamp}{again}")
        if not any(Path(f"{name}{suffix}").exists() for suffix in COMPANIONS):
            return name
    return path.with_name(f"{path.name}{ASIDE}{stamp}-last")
