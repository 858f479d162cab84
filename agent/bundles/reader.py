"""Opens a bundle, holds it against its own index, and gives its parts: nothing is believed that was not checked."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.bundles.tar import Entry, read_entries
from agent.domain import bundle
from agent.domain.bundle import BundleIndex
from agent.errors import Failed, Malformed, NoSpace, Unreachable

CHUNK_BYTES = 256 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose members are exactly those of its index, by name and size. Contents are checked as they are read."""

    path: Path
    index: BundleIndex
    entries: dict[str, Entry]

    def text(self, name: str) -> str:
        """A small member as text, checked. Malformed when its bytes are not what the index says, or no UTF-8."""
        entry = self.entries[name]
        if entry.size > bundle.MAX_TEXT_BYTES:
            most = bundle.MAX_TEXT_BYTES
            raise Malformed("bundle.too_long", f"{self.path}: {name} has {entry.size} bytes, more than {most}")
        try:
            return b"".join(self.read(name)).decode()
        except UnicodeDecodeError:
            raise Malformed(
                "bundle.encoding", f"{self.path}: {name} is not UTF-8 text", hint="save it as UTF-8"
            ) from None

    def read(self, name: str) -> Iterator[bytes]:
        """A member's bytes in pieces; Malformed after the last one when their hash is not the index's."""
        entry = self.entries[name]
        digest = hashlib.sha256()
        left = entry.size
        with _open(self.path) as archive:
            archive.seek(entry.offset)
            while left:
                piece = _piece(archive.read(min(CHUNK_BYTES, left)), self.path)
                left -= len(piece)
                digest.update(piece)
                yield piece
        if digest.hexdigest() != self.index.members[name].sha256:
            raise Malformed(
                "bundle.changed", f"{self.path}: {name} is not what the index says it is", hint="copy the file again"
            )

    def unpack(self, folder: Path) -> None:
        """Write ``app.yaml`` and the files beside it into `folder`, which is there only once it is whole and on disk."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            for name in (bundle.MANIFEST, *(bundle.FILES + each for each in self.index.files)):
                target = part / name.removeprefix(bundle.FILES)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    for piece in self.read(name):
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
            for each in (part, *(p for p in part.rglob("*") if p.is_dir())):
                _sync(each)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
            _sync(folder.parent)
        except OSError as error:
            kind = NoSpace if error.errno in _FULL else Failed
            raise kind("bundle.not_unpacked", f"cannot write {folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`. Unreachable when it is not there; Malformed: not a bundle, cut short, or other members than its index says.

    Blocks: reads the index and every header, for threads only.
    """
    source = str(path)
    with _open(path) as archive:
        found = read_entries(archive, source, bundle.MAX_MEMBERS)
        first = next(found, None)
        if first is None or first.name != bundle.INDEX:
            hint = "a bundle is what `ecgw bundle create` writes"
            raise Malformed("bundle.foreign", f"{source}: no bundle: it does not begin with {bundle.INDEX}", hint=hint)
        if first.size > bundle.MAX_INDEX_BYTES:
            raise Malformed("bundle.index", f"{source}: {bundle.INDEX} has {first.size} bytes", hint="make it again")
        archive.seek(first.offset)
        index = bundle.read_index(_piece(archive.read(first.size), path), source)
        entries: dict[str, Entry] = {}
        for entry in found:
            member = index.members.get(entry.name)
            if member is None or entry.name in entries or member.size != entry.size:
                what = (
                    "is not in its index" if member is None else "stands twice or has another size than its index says"
                )
                hint = "copy the file again, or make the bundle again"
                raise Malformed("bundle.member", f"{source}: {entry.name[:120]!r} {what}", hint=hint)
            entries[entry.name] = entry
    missing = sorted(index.members.keys() - entries.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Malformed(
            "bundle.incomplete", f"{source}: {missing[0]}{more} is not in it", hint="copy the whole file again"
        )
    return Bundle(path, index, entries)


def check_all(found: Bundle, told: Callable[[int, int], None]) -> None:
    """Read every member and check its hash; Malformed at the first that is not what the index says. Blocks."""
    done = 0
    for name in found.entries:
        for piece in found.read(name):
            done += len(piece)
            told(done, found.index.size_bytes)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        # What is on a stick comes back with it: a job that waits for it goes on then.
        hint = "put the stick back in" if isinstance(error, FileNotFoundError) else "look at its rights"
        raise Unreachable("bundle.gone", f"cannot read the bundle {path}: {error.strerror}", hint=hint) from None


def _piece(piece: bytes, path: Path) -> bytes:
    if not piece:
        raise Malformed(
            "bundle.truncated", f"{path}: the archive became shorter while it was read", hint="copy it again"
        )
    return piece


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
