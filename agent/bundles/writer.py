"""Writes a bundle: the same content gives the same bytes, and the file appears only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.domain import bundle
from agent.domain.bundle import BundleIndex, Member, write_index
from agent.errors import Failed, NoSpace

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHUNK_BYTES = 256 * 1024


def describe(path: Path) -> Member:
    """A file's size and hash. Blocks."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
    return Member(size=size, sha256=digest.hexdigest())


def write_bundle(path: Path, index: BundleIndex, sources: Mapping[str, Path], told: Callable[[int, int], None]) -> int:
    """Write `index` and its members, each from the file in `sources`, to `path`; the bundle's bytes. Blocks.

    `told` hears (bytes done, bytes in all). NoSpace or Failed, and then nothing is left.
    """
    part = path.with_name(path.name + ".part")
    done = 0
    try:
        with part.open("wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            head = write_index(index)
            archive.addfile(_header(bundle.INDEX, len(head)), io.BytesIO(head))
            for name in _order(index):
                member = index.members[name]
                with sources[name].open("rb") as source:
                    archive.addfile(_header(name, member.size), source)
                done += member.size
                told(done, index.size_bytes)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except (OSError, ValueError) as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        raise (NoSpace if full else Failed)("bundle.not_written", f"cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


def _order(index: BundleIndex) -> list[str]:
    """The manifest first, then small things before large ones: who looks in need not read far."""
    return sorted(index.members, key=lambda name: (name != bundle.MANIFEST, name.startswith(bundle.BLOBS), name))


def _header(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info
