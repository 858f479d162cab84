"""Small files that are whole or not there: written beside, synced, renamed into place, the folder synced."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.errors import Failed, GatewayError, NoSpace

BEING_WRITTEN = ".part"


def write_whole(path: Path, data: bytes) -> None:
    """Write one file so that a power cut leaves the old or the new content. NoSpace or Failed: the old stands."""
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """As `write_whole` for several, each on its own; a folder is synced once."""
    try:
        for path, data in files.items():
            _write_beside(path, data)
        for path in files:
            _part(path).replace(path)
        for folder in {path.parent for path in files}:
            sync_folder(folder)
    except OSError as error:
        for path in files:
            with contextlib.suppress(OSError):
                _part(path).unlink()
        raise explain(error) from None


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files that may be gone already, and sync their folders."""
    folders = set()
    try:
        for path in paths:
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            sync_folder(folder)
    except OSError as error:
        raise explain(error) from None


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: OSError) -> GatewayError:
    """An operating system's error on a state file in the gateway's words."""
    where = error.filename or "the state"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("store.full", f"no space left to write {where}", hint="free space; nothing was changed")
    return Failed("store.failed", f"{where}: {error.strerror}", hint="check the disk and its rights")


def _part(path: Path) -> Path:
    return path.with_name(path.name + BEING_WRITTEN)


def _write_beside(path: Path, data: bytes) -> None:
    descriptor = os.open(_part(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)
