"""A sample of the sweep of a full and of a failing disk; `make faults ONLY=disk` is all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import MISSED
from tests.faults.campaigns.disk import run_case
from tests.faults.diskfull.trial import fail_calls, fill_up


@pytest.mark.parametrize(("fs", "leave_kib"), [("ext4-1k", 0), ("ext4-1k", 20), ("ext4-4k", 0), ("ext4-4k", 48)])
def test_on_a_full_disk_nothing_is_lost_and_with_space_again_all_goes_on(
    tmp_path: Path, fs: str, leave_kib: int
) -> None:
    found = fill_up(tmp_path, fs, leave_kib)
    assert not found.wrong
    assert found.refused["store.full"] > 0, "the disk was not full: the test is blind"


@pytest.mark.parametrize(("call", "when"), [("fsync", "9"), ("fdatasync", "14+"), ("pwrite64", "40+")])
def test_a_disk_that_fails_is_said_to_fail_and_loses_nothing_acknowledged(tmp_path: Path, call: str, when: str) -> None:
    found = fail_calls(tmp_path, call, when)
    assert not found.wrong
    assert found.struck, "no call failed: the test is blind"
    assert found.refused or call == "fsync", "what failed for good was not said"


def test_a_call_that_is_never_made_is_counted_as_missed(tmp_path: Path) -> None:
    assert run_case(tmp_path, "eio/fdatasync/999") == MISSED
