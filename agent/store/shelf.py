"""Configs and secrets on disk: one folder an instance, one file for each content, written whole or not at all."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from agent.domain.container import PlacedFile
from agent.errors import Failed, NoSpace

FOLDER_MODE = 0o700
"""Only the gateway's own user reaches the files on the host; a container sees just the one that is mounted."""


class DiskShelf:
    """`agent.control.catalog.FileShelf` below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, instance: str) -> Path:
        """Where an instance's files are."""
        return self._root / instance

    async def put(self, instance: str, files: Sequence[PlacedFile], *, tidy: bool) -> None:
        """Write what is missing; with `tidy`, remove what is not among `files`. Raises NoSpace or Failed."""
        try:
            await asyncio.to_thread(self._put, self.folder(instance), files, tidy=tidy)
        except OSError as error:
            words = f"the files of {instance} cannot be written: {error.strerror}"
            kind = NoSpace if error.errno in _FULL else Failed
            raise kind("app.files", words, hint="look at the disk that holds the gateway's state") from None

    async def clear(self, instance: str) -> None:
        """Remove all of an instance's files."""
        await asyncio.to_thread(shutil.rmtree, self.folder(instance), ignore_errors=True)

    def _put(self, folder: Path, files: Sequence[PlacedFile], *, tidy: bool) -> None:
        for each in files:
            path = Path(each.path)
            if not _is_whole(path, each):
                _write(path, each, self._root)
        if not tidy or not folder.is_dir():
            return
        kept = {Path(each.path).parent.name for each in files}
        for entry in folder.iterdir():
            if entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True)
        if not files:
            folder.rmdir()


_FULL = (28, 122)
"""ENOSPC and EDQUOT."""


def _is_whole(path: Path, wanted: PlacedFile) -> bool:
    """Whether the file is there as it shall be; its path stands for its content, so its length is enough."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    owner = (found.st_uid, found.st_gid) == (wanted.uid, wanted.gid) or os.geteuid() != 0
    return owner and found.st_size == len(wanted.content.encode()) and found.st_mode & 0o777 == wanted.mode


def _write(path: Path, wanted: PlacedFile, root: Path) -> None:
    """By rename, and synced: after a power cut there is the whole file or none, never an empty one."""
    for folder in (root, path.parent.parent, path.parent):
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write_all(handle, wanted.content.encode())
        if (wanted.uid, wanted.gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, wanted.uid, wanted.gid)
        os.fchmod(handle, wanted.mode)
        os.fsync(handle)
    except OSError:
        partial.unlink()  # a full disk needs the room
        raise
    finally:
        os.close(handle)
    partial.replace(path)
    for folder in (path.parent, path.parent.parent, root):
        _sync(folder)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
