"""Bundles in watched folders: a stick that was put in, or a folder that somebody copies to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SUFFIX = ".bundle"
MOST = 64
DEPTH = 1
"""Folders below a watched one that are looked into: sticks are mounted below /media."""

Stamp = tuple[int, int, int]
"""Inode, bytes and time of change: another one is another bundle, or one that is still being copied."""


def find_bundles(folders: Sequence[Path]) -> dict[Path, Stamp]:
    """The bundles in `folders` and the folders directly below; at most 64. Never raises; blocks."""
    found: dict[Path, Stamp] = {}
    for folder in folders:
        _look(folder, DEPTH, found)
    return found


def _look(folder: Path, depth: int, found: dict[Path, Stamp]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or len(found) >= MOST:
            continue
        try:
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(SUFFIX):
                status = entry.stat(follow_symlinks=False)
                found[Path(entry.path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
            elif depth and entry.is_dir(follow_symlinks=False):
                _look(Path(entry.path), depth - 1, found)
        except OSError:
            continue  # it went while we looked
