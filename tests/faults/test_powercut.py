"""A seeded sample of power cuts; `make faults ONLY=power-cut` is all of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import loopfs
from tests.faults.campaign import MISSED
from tests.faults.campaigns.power_cut import run_case
from tests.faults.powercut.cut import Case, cut
from tests.faults.powercut.verdict import judge

# The judge reads what is left with the agent's own readers, in a loop that serves nobody.
pytestmark = pytest.mark.may_block

SAMPLE = [
    Case(fs, call, number, seed)
    for seed, (call, number) in enumerate([("pwrite64", 9), ("fdatasync", 5), ("fsync", 11), ("rename", 17)], 1)
    for fs in ("ext4", "ext4-noalloc", "xfs")
]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.key)
def test_after_a_power_cut_every_acknowledged_record_is_there(tmp_path: Path, case: Case) -> None:
    outcome = cut(case, tmp_path)
    assert outcome.killed, "the work ended before the cut: the test is blind"
    assert not outcome.wrong


def test_a_cut_that_came_after_the_work_is_counted_as_missed(tmp_path: Path) -> None:
    assert run_case(tmp_path, "ext4/mkdir/999/1") == MISSED


FORGETFUL = """
import os, pathlib, sys
from agent.store.mirror import seal
folder = pathlib.Path(sys.argv[1]) / "instances"
folder.mkdir()
(folder / "app-1.part").write_bytes(seal(b"{}"))
(folder / "app-1.part").rename(folder / "app-1.json")
print("file 1")
"""


def test_a_rename_without_a_sync_would_be_noticed(tmp_path: Path) -> None:
    image, after = tmp_path / "disk.img", tmp_path / "after.img"
    loopfs.make(image, "ext4-noalloc")
    with loopfs.mounted(image, tmp_path / "disk", "ext4-noalloc") as disk:
        argv = [sys.executable, "-c", FORGETFUL, str(disk)]
        said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
        loopfs.copy(image, after)
    with loopfs.mounted(after, tmp_path / "left", "ext4-noalloc") as left:
        wrong = asyncio.run(judge(left, said.splitlines()))
    assert "instances/app-1.json was acknowledged and is not there" in wrong
