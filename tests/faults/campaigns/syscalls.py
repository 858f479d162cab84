"""Every system call that writes or syncs, of the agent's start and of every operation: killed there once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import zip_longest

from tests.faults.campaign import Campaign
from tests.faults.lab.both import count_both, open_both
from tests.faults.lab.gateway import Gateway
from tests.faults.lab.trace import AT_REST, count_calls, kill_at_call

Calls = Mapping[tuple[str, str], int]


@cache
def cases() -> list[str]:
    """``upgrade/state/pwrite64/31``: counted under strace, undisturbed."""
    return order_cases(count_both(count_calls, first=(AT_REST,)))


def order_cases(counted: Mapping[str, Calls]) -> list[str]:
    """The cases of all that was counted in each operation. Those that begin where others end follow each other."""
    listed = {operation: _list_calls(operation, calls) for operation, calls in counted.items()}
    to_and_fro = zip_longest(listed.pop("install", []), listed.pop("remove", []))
    return [case for pair in to_and_fro for case in pair if case] + [case for each in listed.values() for case in each]


def _list_calls(operation: str, calls: Calls) -> list[str]:
    return sorted(
        f"{operation}/{group}/{call}/{number}" for (group, call), last in calls.items() for number in range(1, last + 1)
    )


def run_case(gateway: Gateway, case: str) -> str:
    """Run one round."""
    operation, group, call, number = case.split("/")
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = kill_at_call(gateway, operation, group, call, int(number))
    return round_.problem


CAMPAIGN = Campaign(
    name="syscalls",
    claim="killed at every call that writes or syncs, of a start and of every operation, also start-first: old or new",
    cases=cases,
    open=lambda folder: open_both(folder, run_case),
)
