"""The kinds of site files: where each lies, what its files are called, and who reads them. One table: `KINDS`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.files.apps import read_app
from agent.files.devices import read_device_table, read_devices
from agent.files.effect import Effect
from agent.files.points import read_points
from agent.files.rules import read_rules
from agent.files.table import MAX_BYTES as TABLE_MAX_BYTES
from agent.files.table import read_table
from agent.files.text import read_bytes
from agent.files.yaml import MAX_BYTES, read_document

DEVICES_MAX_BYTES = 4 * 1024 * 1024
MAX_BESIDE = 200


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes and a digest that also covers the files beside it that it may refer to."""

    raw: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of site file. `folders`: a sub-folder counts as one entry, with its main file inside."""

    name: str
    folder: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Content], Effect]
    max_bytes: int = MAX_BYTES
    folders: bool = False

    def fetch(self, path: Path) -> Content:
        """The content of an entry. Raises Mistakes."""
        main = main_file(path) if self.folders else path
        raw = read_bytes(main, str(main), max_bytes=TABLE_MAX_BYTES if is_table(main) else self.max_bytes)
        seal = hashlib.sha256(raw)
        if main != path:
            seal.update(fingerprint_beside(path).encode())
        return Content(raw, seal.hexdigest())


def is_table(path: Path) -> bool:
    """True for a point table; tables are read after YAML, because they add to what it describes."""
    return path.suffix == ".csv"


def main_file(path: Path) -> Path:
    """The file that an entry is read from: itself, or a folder's ``app.yaml``."""
    return path / "app.yaml" if path.is_dir() else path


def fingerprint_beside(folder: Path) -> str:
    """Names, sizes and times of what lies in an instance's folder, to notice a change without reading it all."""
    seen: list[str] = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            try:
                state = (Path(place) / name).lstat()
            except OSError:
                continue
            seen.append(f"{place}/{name} {state.st_size} {state.st_mtime_ns} {state.st_ino}")
            if len(seen) >= MAX_BESIDE:
                return "\n".join(seen)
    return "\n".join(seen)


def _read_devices(path: Path, content: Content) -> Effect:
    source = str(path)
    if is_table(path):
        return read_device_table(read_table(content.raw, source), path.stem)
    return read_devices(read_document(content.raw, source, max_bytes=DEVICES_MAX_BYTES))


def _read_points(path: Path, content: Content) -> Effect:
    source = str(path)
    table = is_table(path)
    return read_points(read_table(content.raw, source) if table else read_document(content.raw, source))


def _read_rules(path: Path, content: Content) -> Effect:
    return read_rules(read_document(content.raw, str(path)))


def _read_app(path: Path, content: Content) -> Effect:
    main = main_file(path)
    document = read_document(content.raw, str(main))
    return read_app(document, path.name if main != path else path.stem, path if main != path else None)


KINDS = (
    Kind("devices", "devices.d", (".yaml", ".csv"), _read_devices, DEVICES_MAX_BYTES),
    Kind("points", "points.d", (".yaml", ".csv"), _read_points),
    Kind("rules", "rules.d", (".yaml",), _read_rules),
    Kind("apps", "apps.d", (".yaml",), _read_app, folders=True),
)
