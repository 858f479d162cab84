"""The files of bundles on the gateway's own disk: a folder for each, named by what is in it, whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from agent.domain import bundle
from agent.errors import Failed, NoSpace

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_THERE = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_PART = ".part-"


class BundleFolders:
    """Folders below `root`, by key. Everything here blocks: for threads only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parts: set[str] = set()

    def path(self, key: str) -> Path:
        """Where the files of a bundle are, or would be."""
        return self.root / key

    def has(self, key: str, names: Iterable[str]) -> bool:
        """True if the folder is there with a file for each member in `names`."""
        folder = self.path(key)
        return folder.is_dir() and all((folder / _place(name)).is_file() for name in names)

    def free_bytes(self) -> int:
        """What the disk has left where the files would lie."""
        place = self.root
        while not place.is_dir() and place != place.parent:
            place = place.parent
        return shutil.disk_usage(place).free

    def put(self, key: str, names: Sequence[str], read: Callable[[str], Iterator[bytes]]) -> None:
        """Write members, each as `read` gives it, into the folder of `key`, which is there only once it is whole and on disk.

        NoSpace, Failed, or what `read` raises: then nothing is left.
        """
        # A name of its own: who was told to stop, and has not yet, writes into nobody else's.
        part = self.root / f"{key}{_PART}{uuid.uuid4().hex[:12]}"
        self._parts.add(part.name)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.mkdir()
            for name in names:
                _write(part / _place(name), read(name))
            for each in (part, *(p for p in part.rglob("*") if p.is_dir())):
                _sync(each)
            self._name(part, key, names)
        except OSError as error:
            kind = NoSpace if error.errno in _FULL else Failed
            hint = "free space" if kind is NoSpace else "look at the gateway's disk"
            raise kind("bundle.not_unpacked", f"cannot write {self.path(key)}: {error.strerror}", hint=hint) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
            self._parts.discard(part.name)

    def names(self) -> list[str]:
        """The keys of all that is there; what a killed agent left half-made goes."""
        try:
            found = [each.name for each in self.root.iterdir()]
        except FileNotFoundError:
            return []
        for name in found:
            if _PART in name and name not in self._parts:
                shutil.rmtree(self.root / name, ignore_errors=True)
        return [name for name in found if _PART not in name]

    def remove(self, key: str) -> None:
        """Let go of a folder."""
        shutil.rmtree(self.path(key), ignore_errors=True)

    def _name(self, part: Path, key: str, names: Sequence[str]) -> None:
        if not self.has(key, names):
            self.remove(key)  # somebody took a file away by hand
            try:
                part.rename(self.path(key))
            except OSError as error:
                # Somebody else was faster: the same key is the same content.
                if error.errno not in _THERE:
                    raise
        _sync(self.root)


def _place(member: str) -> str:
    return member.removeprefix(bundle.FILES)


def _write(target: Path, pieces: Iterator[bytes]) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with target.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
