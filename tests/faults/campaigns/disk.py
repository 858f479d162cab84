"""The disk is full, or fails: no crash, a clear refusal, nothing acknowledged lost, and all goes on afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import Bench, Campaign
from tests.faults.diskfull.trial import fail_calls, fill_up

FREE_KIB = range(0, 97, 2)
CALLS = ("fsync", "fdatasync", "pwrite64")
NUMBERS = range(1, 60, 3)


def cases() -> list[str]:
    """``full/ext4-1k/24``: KiB free; ``eio/fsync/7+``: the seventh call of a thread and all after it fail."""
    full = [f"full/{fs}/{kib}" for fs in ("ext4-1k", "ext4-4k") for kib in FREE_KIB]
    return full + [f"eio/{call}/{number}{more}" for call in CALLS for number in NUMBERS for more in ("", "+")]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """A file system, or a folder, for each case."""
    yield lambda case: run_case(folder, case)


def run_case(folder: Path, case: str) -> str:
    """One trial."""
    kind, where, rest = case.split("/")
    found = fill_up(folder, where, int(rest)) if kind == "full" else fail_calls(folder, where, rest)
    return "; ".join(found.wrong)


CAMPAIGN = Campaign(
    name="disk",
    claim="0 to 96 KiB free on blocks of 1 and 4 KiB, and calls that say EIO: no crash, a clear refusal, nothing acknowledged lost",
    cases=cases,
    open=open_bench,
)
