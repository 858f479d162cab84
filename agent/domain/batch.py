"""Batches: what was kept of many points, gathered for one message.

The payload is the JSON object ``{"items": [...]}``. A sample is ``{"p","t","v","q"}``, an aggregate ``{"p","t0","t1",
"n","min","max","mean","first","last"}``; both may carry ``"u": true`` (the clock was not to be trusted), an aggregate
also ``"late": true`` (a correction, to be added to the window) and ``"bad"`` (samples left out).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import zstandard

from agent.domain.sample import Quality, Scalar

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PAYS_BELOW = 0.9
WORTH_TRYING_BYTES = 256
MAX_PLAIN_BYTES = 16 * 1024 * 1024


class SampleItem(msgspec.Struct, gc=False, frozen=True):
    """One sample on its way up."""

    p: str
    t: int
    v: Scalar
    q: Quality
    u: bool | msgspec.UnsetType = msgspec.UNSET


class AggregateItem(msgspec.Struct, gc=False, frozen=True):
    """One window on its way up."""

    p: str
    t0: int
    t1: int
    n: int
    min: float
    max: float
    mean: float
    first: float
    last: float
    late: bool | msgspec.UnsetType = msgspec.UNSET
    bad: int | msgspec.UnsetType = msgspec.UNSET
    u: bool | msgspec.UnsetType = msgspec.UNSET


Item = SampleItem | AggregateItem
_encoder = msgspec.json.Encoder()


def encode_items(items: Sequence[Item]) -> bytes:
    """The payload of a batch as plain JSON."""
    return _encoder.encode({"items": items})


def compress(payload: bytes, level: int = 3) -> bytes:
    """`payload` as a zstd frame where that saves a tenth or more, else as it is. The first bytes tell which."""
    if len(payload) < WORTH_TRYING_BYTES:
        return payload
    packed = zstandard.ZstdCompressor(level=level).compress(payload)
    return packed if len(packed) < PAYS_BELOW * len(payload) else payload


def decompress(payload: bytes) -> bytes:
    """The plain JSON again, at most 16 MiB of it. ValueError: a broken frame."""
    if not payload.startswith(ZSTD_MAGIC):
        return payload
    try:
        if zstandard.frame_content_size(payload) > MAX_PLAIN_BYTES:
            raise ValueError(f"a batch has at most {MAX_PLAIN_BYTES} bytes")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_PLAIN_BYTES)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a whole zstd frame: {error}") from error


class Gathering:
    """Items waiting to become a batch: closed at `max_items`, or `max_age_s` after the first."""

    __slots__ = ("_items", "_since_s", "max_age_s", "max_items")

    def __init__(self, max_items: int, max_age_s: float) -> None:
        self.max_items = max_items
        self.max_age_s = max_age_s
        self._items: list[Item] = []
        self._since_s = 0.0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def due_s(self) -> float | None:
        """When what waits must go, on the monotonic clock."""
        return self._since_s + self.max_age_s if self._items else None

    def add(self, item: Item, now_s: float) -> bool:
        """True when the batch is full: take it."""
        if not self._items:
            self._since_s = now_s
        self._items.append(item)
        return len(self._items) >= self.max_items

    def take(self) -> list[Item]:
        """What waited."""
        items, self._items = self._items, []
        return items
