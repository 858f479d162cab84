"""Which cuts to make: every call of every kind in turn, each file system in turn, with another order of work when it ends."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.powercut.cut import Case, count_calls


def plan(kinds: Sequence[str], cuts: int, seed: int, folder: Path) -> list[Case]:
    """`cuts` different cases, the same for the same arguments and code."""
    found: list[Case] = []
    for round_ in itertools.count():
        points = list(_points(seed + round_, folder))
        random.Random(seed + round_).shuffle(points)
        for call, number in points:
            for fs in kinds:
                found.append(Case(fs, call, number, seed + round_))
                if len(found) == cuts:
                    return found
    raise AssertionError


def _points(seed: int, folder: Path) -> Iterator[tuple[str, int]]:
    counted = folder / f"counted-{seed}"
    counted.mkdir()
    for call, most in count_calls(counted, seed).items():
        yield from ((call, number) for number in range(1, most + 1))
    shutil.rmtree(counted)
