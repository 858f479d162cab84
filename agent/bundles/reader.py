"""Opens a bundle, holds it against its own index, and gives its parts: nothing is believed that was not checked."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.bundles.tar import BLOCK, Entry, read_entries
from agent.domain import bundle
from agent.domain.bundle import BundleIndex
from agent.errors import Malformed, Unreachable

CHUNK_BYTES = 256 * 1024
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.ESTALE})
_NO_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_WHAT = "a bundle is a file that `ecgw bundle create` wrote"
_HINTS = {**dict.fromkeys(_GONE, "put the stick back in"), errno.EACCES: "look at its rights"}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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
        with _reading(self.path) as archive:
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


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`. Unreachable when it is not there; Malformed: not a bundle, cut short, or other members than its index says.

    Blocks: reads the index and every header, for threads only.
    """
    source = str(path)
    with _reading(path) as archive:
        begin = archive.read(BLOCK)
        short = len(begin) < BLOCK and not bundle.INDEX.encode().startswith(begin[: len(bundle.INDEX)])
        found = read_entries(archive, source, bundle.MAX_MEMBERS)
        first = None if short else next(found, None)  # too short for a header, and no bundle's beginning either
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


def _open(path: Path) -> BinaryIO:
    """The file at `path`, opened so that nothing but a regular file can be: a pipe would wait, a device may act."""
    try:
        _must_be_a_file(path, path.stat().st_mode)
    except ValueError as error:
        raise Malformed("bundle.no_file", f"{str(path)!a} names no file: {error}", hint=_WHAT) from None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _must_be_a_file(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _must_be_a_file(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise Malformed("bundle.no_file", f"{path} is {what}, and no bundle", hint=_WHAT)


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The open file; what its medium says as the gateway's own errors."""
    try:
        with _open(path) as archive:
            yield archive
    except OSError as error:
        if error.errno in _NO_NAME:
            raise Malformed("bundle.no_file", f"{path}: {error.strerror}", hint=_WHAT) from None
        # What is on a stick comes back with it: a job that waits for it goes on then.
        hint = _HINTS.get(error.errno or 0, "the medium may be failing: copy the bundle to the gateway's own disk")
        code = bundle.GONE if error.errno in _GONE else "bundle.unreadable"
        raise Unreachable(code, f"cannot read the bundle {path}: {error.strerror}", hint=hint) from None


def _piece(piece: bytes, path: Path) -> bytes:
    if not piece:
        raise Malformed(
            "bundle.truncated", f"{path}: the archive became shorter while it was read", hint="copy it again"
        )
    return piece
