"""Killed at a system call that writes or syncs, picked by a seed from all of them, it ends with the old or the new version."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.campaign import MISSED, NEARER, went_wrong
from tests.faults.campaigns.syscalls import order_cases, run_case
from tests.faults.lab.gateway import open_gateway
from tests.faults.lab.trace import AT_REST, count_calls, nearer_moments, read_counts

SEED = 20_261_124
SAMPLE = 40
OPERATIONS = (AT_REST, "install", "upgrade", "rollback", "remove")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("engine_socket")
def test_killed_at_a_seeded_sample_of_writes_and_syncs(short_dir: Path) -> None:
    with open_gateway(short_dir, warm=True) as gateway:
        cases = order_cases({operation: count_calls(gateway, operation) for operation in OPERATIONS})
        assert len(cases) > 200, "strace saw next to nothing"
        random.Random(SEED).shuffle(cases)
        found: dict[str, str] = {}
        # A few calls are not made every time (commits are grouped): those prove nothing, and the next one takes their place.
        for case in cases[: SAMPLE * 2]:
            if sum(problem != MISSED for problem in found.values()) < SAMPLE:
                found[case] = run_case(gateway, case)
    assert not {case: problem for case, problem in found.items() if went_wrong(problem)}
    assert sum(problem == "" or problem.startswith(NEARER) for problem in found.values()) == SAMPLE


def test_a_moment_that_did_not_come_is_tried_again_and_then_nearer_ones_a_few_times() -> None:
    assert nearer_moments(31) == [31, 31, 30, 29, 23]
    assert nearer_moments(1) == [1, 1, 1]


def test_calls_are_counted_by_their_busiest_thread_and_by_the_files_they_touch() -> None:
    lines = [
        '7 pwrite64(5</v/state.db-wal>, "x", 24, 0) = 24',
        "7 fdatasync(5</v/state.db-wal>) = 0",
        '8 pwrite64(6</v/outbox.db-wal>, "x", 24, 0) = 24',
        '9 rename("/v/a.new", "/v/a") = 0',
        '9 rename("/v/b.new", "/v/b") = 0',
        '10 rename("/v/c.new", "/v/c") = 0',
        "10 fsync(9</v>) = 0",
        "10 +++ killed by SIGKILL +++",
    ]
    assert read_counts(lines) == {
        ("files", "fsync"): 1,
        ("files", "rename"): 2,
        ("outbox", "pwrite64"): 1,
        ("state", "fdatasync"): 1,
        ("state", "pwrite64"): 1,
    }
