"""The tar that a bundle is: ustar with regular files only, read strictly and without unpacking anything.

Python's own reader follows links, takes every dialect and reads extension records of any size into memory: right for
archives of friends. A bundle comes on a stick from somewhere, and needs none of that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from agent.errors import Malformed

BLOCK = 512
_ZEROS = bytes(BLOCK)
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder",
          b"6": "a pipe", b"x": "an extension record", b"g": "an extension record", b"L": "a long name",
          b"K": "a long link"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file in the archive: where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def read_entries(archive: BinaryIO, source: str, most: int) -> Iterator[Entry]:
    """Every file of `archive` in order, read from the headers alone. Malformed where it is no bundle's tar or cut short."""
    end = archive.seek(0, os.SEEK_END)
    at = 0
    for count in range(most + 2):
        archive.seek(at)
        header = archive.read(BLOCK)
        if header == _ZEROS:
            return
        if len(header) < BLOCK:
            raise _truncated(source, at)
        if count > most:
            break
        entry = _read_header(header, at, source)
        padded = -(-entry.size // BLOCK) * BLOCK
        if entry.offset + padded > end:
            raise _truncated(source, end)
        yield entry
        at = entry.offset + padded
    raise Malformed("bundle.too_many", f"{source}: more than {most} files", hint="a bundle holds one APP")


def _read_header(header: bytes, at: int, source: str) -> Entry:
    if header[257:262] != b"ustar" or _number(header[148:156]) != _checksum(header):
        hint = "a bundle is a tar as `ecgw bundle create` writes it; unpack what it was packed into"
        raise Malformed("bundle.foreign", f"{source}: no bundle: what stands at byte {at} is no tar header", hint=hint)
    kind = header[156:157]
    name = _text(header[345:500]) + "/" + _text(header[0:100]) if header[345:346] != b"\0" else _text(header[0:100])
    if kind not in (b"0", b"\0"):
        what = _KINDS.get(kind, "no regular file")
        raise Malformed(
            "bundle.member", f"{source}: {name[:120]!r} is {what}", hint="a bundle holds regular files only"
        )
    size = _number(header[124:136])
    if size is None:
        raise Malformed("bundle.member", f"{source}: {name[:120]!r} has no size", hint="make the bundle again")
    return Entry(name, at + BLOCK, size)


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 32 + sum(header[156:])


def _number(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and all(each in b"01234567" for each in digits) else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _truncated(source: str, at: int) -> Malformed:
    return Malformed(
        "bundle.truncated", f"{source}: the archive ends at byte {at}, in the middle", hint="copy the whole file again"
    )
