"""What lies in a folder of site files: which files count, which are only near misses, and whether it is there at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from agent.domain.document import Mark, Problem

MAX_FILES = 2000
NEAR_MISSES = {".yml": ".yaml", ".json": ".yaml", ".txt": ".yaml", ".tsv": ".csv", ".xlsx": ".csv", ".ods": ".csv"}


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that count, sorted by name. `gone` is true where the folder is missing or cannot be listed."""

    files: tuple[Path, ...]
    problems: tuple[Problem, ...] = ()
    gone: bool = False


def list_strangers(root: Path, known: Collection[str]) -> tuple[Problem, ...]:
    """Entries of a configuration folder whose names are nearly one of `known`: they were meant to be read."""
    try:
        names = sorted(each.name for each in root.iterdir())
    except OSError:
        return ()
    import difflib  # 0.2 MiB, and an agent has little use for it

    problems: list[Problem] = []
    for name in names:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near and name not in known and _is_text(name) and Path(name).suffix in ("", ".d", ".yml", ".yaml"):
            hint = f"did you mean '{near[0]}'?"
            problems.append(Problem(str(root / name), Mark(1, 1), "file.name", "is not read because of its name", hint))
    return tuple(problems)


def list_folder(folder: Path, suffixes: tuple[str, ...], *, folders: bool = False) -> Listing:
    """The files below `folder` with one of `suffixes`, and with `folders` its sub-folders.

    Hidden files and editors' left-overs (``x~``, ``x.swp``, ``x.bak``) are not a site's files. A file whose ending is
    nearly right is a problem: it was meant to be read.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda each: each.name)
    except FileNotFoundError:
        return Listing((), gone=True)
    except OSError as error:
        what = f"cannot be listed: {error.strerror}"
        return Listing((), (Problem(str(folder), Mark(1, 1), "file.folder", what, "look at its rights"),), gone=True)
    files: list[Path] = []
    problems: list[Problem] = []
    for path in entries:
        if path.name.startswith("."):
            continue
        if not _is_text(path.name):
            shown = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            words = "its name is not UTF-8 and is not read"
            problems.append(Problem(str(folder / shown), Mark(1, 1), "file.name", words, "rename it"))
        elif path.suffix in suffixes or (folders and path.is_dir()):
            files.append(path)
        elif path.suffix.lower() in (*NEAR_MISSES, *suffixes):
            right = path.suffix.lower() if path.suffix.lower() in suffixes else NEAR_MISSES[path.suffix.lower()]
            hint = f"write it as {path.stem}{right if right in suffixes else suffixes[0]}"
            problems.append(Problem(str(path), Mark(1, 1), "file.suffix", "is not read because of its ending", hint))
    if len(files) > MAX_FILES:
        words = f"{len(files)} files, the most is {MAX_FILES}"
        problems.append(Problem(str(folder), Mark(1, 1), "file.too_many", words, "put several things into one file"))
    return Listing(tuple(files[:MAX_FILES]), tuple(problems))


def _is_text(name: str) -> bool:
    """False where the disk holds bytes that are no UTF-8: no alarm, reply or log could carry them."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
