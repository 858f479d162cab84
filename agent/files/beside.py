"""Files beside a manifest: what it names must lie in the APP's folder, also after every symbolic link."""

from __future__ import annotations

import os
from pathlib import Path

KEEP_INSIDE = "keep it in the APP's folder, without links out of it"


def find_beside(folder: Path, name: str) -> Path | None:
    """The real path of `name` in `folder`, whether it is there or not; None when that is outside of the folder.

    Links that lead in a circle are in the folder: whoever reads the file says what is wrong with them.
    """
    path = Path(os.path.realpath(folder / name))
    return path if path.is_relative_to(os.path.realpath(folder)) else None
