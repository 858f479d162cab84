"""Files beside a manifest: what it names must lie in the APP's folder, also after every symbolic link."""

from __future__ import annotations

from pathlib import Path

KEEP_INSIDE = "keep it in the APP's folder, without links out of it"


def find_beside(folder: Path, name: str) -> Path | None:
    """The real path of `name` in `folder`, whether it is there or not; None when that is outside of the folder."""
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None
