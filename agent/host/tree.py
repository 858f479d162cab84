"""How much a folder takes on disk: counted by hand, slowly on purpose, whatever the APP does to it meanwhile."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from agent.domain.usage import MOST_DEPTH, MOST_ENTRIES, Folder

_BLOCK = 512
_PAUSE_EVERY = 500
_PAUSE_S = 0.005


def measure(path: str, *, most: int = MOST_ENTRIES, pause: Callable[[float], None] = time.sleep) -> Folder:
    """The blocks below `path`, hard links once, other file systems left out; an absent folder takes nothing.

    Works with open folders, never with paths below `path`, and follows no link: an APP that swaps a folder for a link
    while it is counted leads nowhere. After `most` entries, or deeper than `MOST_DEPTH`, the rest is left uncounted.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return Folder()
    count = _Count(os.fstat(top).st_dev, most, pause)
    count.add(os.fstat(top))
    with contextlib.closing(Descent(top)) as stack:
        while (entry := stack.next()) is not None:
            count.visit(entry, stack)
            if count.entries >= most:
                count.complete = False
                break
    return Folder(count.bytes, count.complete)


class _Entries(Protocol):
    def __next__(self) -> os.DirEntry[str]: ...
    def __iter__(self) -> Iterator[os.DirEntry[str]]: ...
    def close(self) -> None: ...


class Descent:
    """All entries below an open folder, which it takes over; the folders on the way down are open, `MOST_DEPTH` at most."""

    def __init__(self, top: int) -> None:
        self._open: list[tuple[int, _Entries]] = []
        self._push(top)

    @property
    def full(self) -> bool:
        """True when it can go no deeper."""
        return len(self._open) >= MOST_DEPTH

    @property
    def here(self) -> int:
        """The folder that the last entry stood in."""
        return self._open[-1][0]

    def next(self) -> os.DirEntry[str] | None:
        """The next entry anywhere below; None at the end."""
        while self._open:
            try:
                found = next(self._open[-1][1], None)
            except OSError:
                found = None
            if found is not None:
                return found
            self._pop()
        return None

    def enter(self, name: str) -> None:
        """Go down; OSError when it is no folder any more."""
        self._push(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.here))

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._pop()

    def _pop(self) -> None:
        fd, entries = self._open.pop()
        entries.close()
        os.close(fd)

    def _push(self, fd: int) -> None:
        try:
            # Read as it goes: a folder may hold more names than there is memory.
            self._open.append((fd, os.scandir(fd)))
        except OSError:
            os.close(fd)
            raise


class _Count:
    def __init__(self, device: int, most: int, pause: Callable[[float], None]) -> None:
        self.bytes = 0
        self.entries = 0
        self.complete = True
        self._device = device
        self._most = most
        self._pause = pause
        self._linked: set[int] = set()

    def visit(self, entry: os.DirEntry[str], stack: Descent) -> None:
        """Count one entry, and go down where it is a folder of this file system."""
        self.entries += 1
        if self.entries % _PAUSE_EVERY == 0:
            self._pause(_PAUSE_S)
        try:
            found = os.stat(entry.name, dir_fd=stack.here, follow_symlinks=False)
            if found.st_dev != self._device:
                return
            self.add(found)
            if not stat.S_ISDIR(found.st_mode):
                return
            if stack.full:
                self.complete = False
                return
            stack.enter(entry.name)
        except FileNotFoundError:
            return
        except OSError:
            self.complete = False

    def add(self, found: os.stat_result) -> None:
        """Its blocks, once for all its names."""
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in self._linked:
                return
            self._linked.add(found.st_ino)
        self.bytes += found.st_blocks * _BLOCK
