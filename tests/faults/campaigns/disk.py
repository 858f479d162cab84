"""The disk is full, or fails: no crash, a clear refusal, nothing acknowledged lost, and all goes on afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.diskfull.trial import fail_calls, fill_up

FREE_KIB = range(0, 97, 2)
NUMBERS: Mapping[str, range] = {"fsync": range(1, 60, 3), "fdatasync": range(1, 24), "pwrite64": range(1, 60, 3)}
"""Of each call, such numbers as the work makes: its thread of commits makes two dozen of the second."""


def cases() -> list[str]:
    """``full/ext4-1k/24``: KiB free; ``eio/fsync/7+``: the seventh call of a thread and all after it fail."""
    full = [f"full/{fs}/{kib}" for fs in ("ext4-1k", "ext4-4k") for kib in FREE_KIB]
    return full + [
        f"eio/{call}/{number}{more}" for call, numbers in NUMBERS.items() for number in numbers for more in ("", "+")
    ]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """A file system, or a folder, for each case."""
    yield lambda case: run_case(folder, case)


def run_case(folder: Path, case: str) -> str:
    """One trial. MISSED when no call was made to fail."""
    kind, where, rest = case.split("/")
    found = fill_up(folder, where, int(rest)) if kind == "full" else fail_calls(folder, where, rest)
    return "; ".join(found.wrong) or ("" if found.struck else MISSED)


CAMPAIGN = Campaign(
    name="disk",
    claim="0 to 96 KiB free on blocks of 1 and 4 KiB, and calls that say EIO: no crash, a clear refusal, nothing acknowledged lost",
    cases=cases,
    open=open_bench,
)
