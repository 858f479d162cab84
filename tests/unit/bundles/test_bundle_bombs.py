"""A layer that unpacks to more than there is room for is found out while it is read, in little memory."""

from __future__ import annotations

import gzip
import secrets
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import zstandard

from agent.bundles.unpacked import watch_size
from agent.errors import Malformed, NoSpace

MIB = 1024 * 1024
PIECE = 64 * 1024
PACKS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 9),
    "two gzips": lambda data: gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "two zstds": lambda data: b"".join(
        zstandard.ZstdCompressor().compress(half) for half in (data[: len(data) // 2], data[len(data) // 2 :])
    ),
}


def pieces(packed: bytes) -> Iterator[bytes]:
    for at in range(0, len(packed), PIECE):
        yield packed[at : at + PIECE]


def read(packed: bytes, room_bytes: int) -> bytes:
    return b"".join(watch_size(pieces(packed), "layer", len(packed), room_bytes))


@pytest.mark.parametrize("how", PACKS)
def test_a_bomb_is_found_out_before_it_is_read_to_its_end_and_never_lies_in_memory(how: str) -> None:
    packed = PACKS[how](bytes(96 * MIB))
    tracemalloc.start()
    with pytest.raises(Malformed) as caught:
        read(packed, 40 * MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (caught.value.code, caught.value.exit_code) == ("bundle.bomb", 2)
    assert peak < 16 * MIB


@pytest.mark.parametrize("how", PACKS)
def test_an_honest_layer_passes_as_it_is_and_one_that_is_too_large_now_may_come_later(how: str) -> None:
    packed = PACKS[how](secrets.token_bytes(MIB) * 3)
    assert read(packed, 4 * MIB) == packed
    with pytest.raises(NoSpace) as caught:
        read(packed, 2 * MIB)
    assert (caught.value.code, caught.value.retryable) == ("bundle.no_space", True)


@pytest.mark.parametrize(
    "junk", [b"", b"x", b"\x1f\x8b", b"\x1f\x8bjunk" * 99, b"\x28\xb5\x2f\xfdjunk" * 99, bytes(MIB)]
)
def test_what_is_no_archive_is_left_to_the_engine(junk: bytes) -> None:
    assert read(junk, 1) == junk
