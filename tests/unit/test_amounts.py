"""Sizes in words."""

from __future__ import annotations

import pytest

from agent.domain.amounts import show_bytes

MIB = 1024**2


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (64 * MIB, "64 MiB"), (999 * MIB, "999 MiB"),
        (1000 * MIB, "1 GiB"), (1536 * MIB, "1.5 GiB"), (2048**5, "32768 TiB"),
    ],
)  # fmt: skip
def test_sizes_are_said_in_powers_of_1024(count: int, words: str) -> None:
    assert show_bytes(count) == words
