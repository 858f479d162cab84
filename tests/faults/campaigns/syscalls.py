"""Every system call that writes or syncs, of the agent's start and of every operation: killed there once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from pathlib import Path

from tests.faults.campaign import Bench, Campaign
from tests.faults.lab.gateway import OPERATIONS, Gateway, open_gateway
from tests.faults.lab.trace import AT_REST, count_calls, kill_at_call


@cache
def cases() -> list[str]:
    """``upgrade/state/pwrite64/31``: counted under strace, undisturbed."""
    with tempfile.TemporaryDirectory(prefix="ef", dir="/tmp") as folder, open_gateway(Path(folder)) as gateway:
        return list_cases(gateway)


def list_cases(gateway: Gateway, operations: Sequence[str] = (AT_REST, *OPERATIONS)) -> list[str]:
    """The cases, counted on this gateway. Those that begin where others end follow each other."""
    counted = {operation: _list_calls(gateway, operation) for operation in operations}
    to_and_fro = zip_longest(counted.pop("install", []), counted.pop("remove", []))
    return [case for pair in to_and_fro for case in pair if case] + [case for each in counted.values() for case in each]


def _list_calls(gateway: Gateway, operation: str) -> list[str]:
    return sorted(
        f"{operation}/{group}/{call}/{number}"
        for (group, call), last in count_calls(gateway, operation).items()
        for number in range(1, last + 1)
    )


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One gateway for all cases."""
    with open_gateway(folder, warm=True) as gateway:
        yield lambda case: run_case(gateway, case)


def run_case(gateway: Gateway, case: str) -> str:
    """Run one round."""
    operation, group, call, number = case.split("/")
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = kill_at_call(gateway, operation, group, call, int(number))
    return round_.problem


CAMPAIGN = Campaign(
    name="syscalls",
    claim="killed at every call that writes or syncs, of a start and of every operation: old or new",
    cases=cases,
    open=open_bench,
)
