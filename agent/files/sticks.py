"""Bundles in watched folders: a stick that was put in, or a folder that somebody copies to."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIX = ".bundle"
MOST = 64
Stamp = tuple[int, int, int]
"""Inode, bytes and time of change: another one is another bundle, or one that is still being copied."""


def look_into(folder: Path) -> tuple[dict[Path, Stamp], list[Path]]:
    """The bundles in a folder, and the folders in it; at most 64 of each. Never raises; blocks, for as long as a medium likes."""
    found: dict[Path, Stamp] = {}
    folders: list[Path] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return found, folders
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(SUFFIX) and len(found) < MOST:
                status = entry.stat(follow_symlinks=False)
                found[Path(entry.path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
            elif entry.is_dir(follow_symlinks=False) and len(folders) < MOST:
                folders.append(Path(entry.path))
        except OSError:
            continue  # it went while we looked
    return found, folders
