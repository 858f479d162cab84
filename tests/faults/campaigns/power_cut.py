"""The power fails at every write: what the agent had acknowledged is there, and every file parses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.powercut.cut import Case, cut
from tests.faults.powercut.plan import plan

CUTS = 1050
"""Some calls are not made every time: a thousand cuts must have struck."""
SYSTEMS = ("ext4", "ext4-noalloc", "xfs")
SEED = 1


def cases() -> list[str]:
    """``xfs/pwrite64/9/1``: file system, call, the how-manieth of a thread, seed of the order of work."""
    with tempfile.TemporaryDirectory(prefix="cut") as folder:
        return [f"{c.fs}/{c.call}/{c.number}/{c.seed}" for c in plan(SYSTEMS, CUTS, SEED, Path(folder))]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """Loop devices, made and let go for each case."""
    yield lambda case: run_case(folder, case)


def run_case(folder: Path, case: str) -> str:
    """One cut. MISSED when the work was over before its call came."""
    fs, call, number, seed = case.split("/")
    found = cut(Case(fs, call, int(number), int(seed)), folder)
    return "; ".join(found.wrong) or ("" if found.killed else MISSED)


CAMPAIGN = Campaign(
    name="power-cut",
    claim="power fails at a write, sync or rename, on ext4, ext4 noauto_da_alloc and XFS: 0 lost acknowledgements, 0 unparsable files",
    cases=cases,
    open=open_bench,
)
