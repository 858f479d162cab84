"""How large a layer becomes: counted while it is copied, because its packed size tells nothing of a bomb."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final

import zstandard

from agent.errors import Malformed, NoSpace

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES: Final = 256 * 1024
_GZIP_MOST_TIMES: Final = 1100
"""No gzip can become larger than so many times its size: what then fits needs no counting."""
_BOMB_TIMES: Final = 200
_MIB: Final = 1024**2


def watch_size(pieces: Iterator[bytes], name: str, size_bytes: int, room_bytes: int) -> Iterator[bytes]:
    """`pieces` of a packed layer of `size_bytes`, as they are.

    NoSpace ``bundle.no_space`` as soon as what they unpack to is more than `room_bytes`; Malformed ``bundle.bomb`` when
    that is also out of all proportion. What is no archive passes: the engine refuses it.
    """
    first = next(pieces, b"")
    counting: _Count | None = None
    if first.startswith(_GZIP) and size_bytes * _GZIP_MOST_TIMES > room_bytes:
        counting = _GzipCount(name, room_bytes)
    elif first.startswith(_ZSTD):
        counting = _ZstdCount(name, room_bytes)
    piece = first
    while piece:
        if counting is not None and not counting.add(piece):
            counting = None
        yield piece
        piece = next(pieces, b"")


class _Count(ABC):
    def __init__(self, name: str, room_bytes: int) -> None:
        self._name = name
        self._room_bytes = room_bytes
        self._packed_bytes = 0
        self._unpacked_bytes = 0

    def add(self, piece: bytes) -> bool:
        """Count a piece; False when there is nothing to count in it."""
        self._packed_bytes += len(piece)
        return self._unpack(piece)

    @abstractmethod
    def _unpack(self, piece: bytes) -> bool:
        """Unpack one more piece into `write`; False when it is not packed this way."""

    def write(self, unpacked: bytes) -> int:
        """So much more came out."""
        self._unpacked_bytes += len(unpacked)
        if self._unpacked_bytes <= self._room_bytes:
            return len(unpacked)
        mib = self._room_bytes // _MIB
        if self._unpacked_bytes > _BOMB_TIMES * self._packed_bytes:
            words = f"{self._name} unpacks to more than {_BOMB_TIMES} times its size, and more than {mib} MiB"
            raise Malformed("bundle.bomb", words, hint="do not trust who made it")
        raise NoSpace(
            "bundle.no_space",
            f"{self._name} unpacks to more than the {mib} MiB that the engine's disk has for it",
            hint="free space: `ecgw image prune`, or remove an APP",
            free_bytes=self._room_bytes,
        )


class _GzipCount(_Count):
    def __init__(self, name: str, room_bytes: int) -> None:
        super().__init__(name, room_bytes)
        self._gzip = zlib.decompressobj(31)

    def _unpack(self, piece: bytes) -> bool:
        try:
            while piece:
                self.write(self._gzip.decompress(piece, _CHUNK_BYTES))
                piece = self._gzip.unconsumed_tail
                if self._gzip.eof:
                    piece, self._gzip = self._gzip.unused_data, zlib.decompressobj(31)
        except zlib.error:
            return False
        return True


class _ZstdCount(_Count):
    def __init__(self, name: str, room_bytes: int) -> None:
        super().__init__(name, room_bytes)
        sink: Any = self
        self._zstd = zstandard.ZstdDecompressor(max_window_size=2**27).stream_writer(sink, closefd=False)

    def _unpack(self, piece: bytes) -> bool:
        try:
            self._zstd.write(piece)
        except zstandard.ZstdError:
            return False
        return True
