"""What stands in a write-ahead log, read without SQLite: which commits are whole, and whether some were lost.

SQLite takes the valid beginning of the file and is silent about the rest. After a power cut that is right: only the
last transaction can be cut, because each is synced before the next one begins. When a byte went bad in the middle it
is not: acknowledged commits vanish without a word. The rest of the file tells the two apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = (0x377F0682, 0x377F0683)
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class WalReading:
    """`commits` are whole; `after` are commits of the same generation that stand behind the first bad frame."""

    commits: int = 0
    after: int = 0
    cut: bool = False

    @property
    def lost(self) -> bool:
        """True when acknowledged commits must be gone: of the commits behind the bad frame only one may be a torn one."""
        return self.after > 1


def read_wal(data: bytes) -> WalReading:
    """Judge the bytes of a ``-wal`` file. Never raises."""
    if len(data) < _HEADER.size + _FRAME.size:
        return WalReading(cut=bool(data.strip(b"\0")))
    magic, _, page_size, _, salt1, salt2, sum1, sum2 = _HEADER.unpack_from(data)
    known = magic in _MAGIC and 512 <= page_size <= 65536 and page_size & (page_size - 1) == 0
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, data[:24], 0, 0) if known else (-1, -1)
    if sums != (sum1, sum2):
        return _without_header(data)
    commits, step, offset = 0, _FRAME.size + page_size, _HEADER.size
    while offset + step <= len(data):
        _, size, frame1, frame2, want1, want2 = _FRAME.unpack_from(data, offset)
        if (frame1, frame2) != (salt1, salt2):
            break  # of an earlier generation, or bad: what follows decides
        sums = _checksum(order, data[offset : offset + 8], *sums)
        sums = _checksum(order, data[offset + _FRAME.size : offset + step], *sums)
        if sums != (want1, want2):
            break
        commits += size > 0
        offset += step
    frames = _frames(data, offset, page_size, (salt1, salt2))
    return WalReading(commits, sum(size > 0 for size in frames), cut=bool(frames))


def _without_header(data: bytes) -> WalReading:
    """The header is bad: SQLite will take nothing. A header is one sector, so no power cut does that to a used file."""
    for page_size in (4096, 1024, 512, 8192, 2048, 16384, 32768, 65536):
        if len(data) < _HEADER.size + _FRAME.size:
            break
        salts = _FRAME.unpack_from(data, _HEADER.size)[2:4]
        second = _HEADER.size + _FRAME.size + page_size
        if second + _FRAME.size <= len(data) and _FRAME.unpack_from(data, second)[2:4] == salts:
            frames = _frames(data, _HEADER.size, page_size, salts)
            return WalReading(0, max(2, sum(size > 0 for size in frames)), cut=True)
    return WalReading(cut=True)


def _frames(data: bytes, offset: int, page_size: int, salts: tuple[int, ...]) -> list[int]:
    """The commit sizes of the frames from `offset` on that carry `salts`; a commit's last frame has one above 0."""
    step = _FRAME.size + page_size
    found = []
    while offset + _FRAME.size <= len(data):
        _, size, *frame_salts, _, _ = _FRAME.unpack_from(data, offset)
        if tuple(frame_salts) == tuple(salts):
            found.append(size)
        offset += step
    return found


def _checksum(order: str, data: bytes, sum1: int, sum2: int) -> tuple[int, int]:
    """SQLite's running sum over pairs of 32-bit words."""
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        sum1 = (sum1 + first + sum2) & _MASK
        sum2 = (sum2 + second + sum1) & _MASK
    return sum1, sum2
