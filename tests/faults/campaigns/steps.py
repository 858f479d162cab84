"""Every journaled step of every operation, killed before and after, and every decision, twenty times over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.both import START_FIRST, count_both, open_both
from tests.faults.lab.gateway import Gateway
from tests.faults.lab.kill import count_entries, kill_at_step

ROUNDS = 20
MOST_STEPS = 60
LEAST_STEPS = 5
"""Two containers, a network and a volume are made and started, or stopped and removed."""
PAIRS = (("install", "remove"), ("upgrade", "rollback"), ("failing",), START_FIRST[:2], START_FIRST[2:])
"""Operations that begin where the other ends."""


@dataclass(frozen=True, slots=True)
class Struck:
    """`steps` that were counted, what went `wrong` at which case, and the cases of counted steps that `missed` twice."""

    steps: Mapping[str, int]
    wrong: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)


@cache
def count_steps() -> Mapping[str, int]:
    """How many steps each operation journals."""
    return count_both(count_entries)


def cases() -> list[str]:
    """``upgrade/step/3/before/7``: operation, failpoint, round. Those that begin where others end follow each other."""
    counts = count_steps()
    return [
        f"{operation}/step/{step}/{side}/{number}"
        for number in range(ROUNDS)
        for pair in PAIRS
        for step in range(1, max(counts[operation] for operation in pair) + 1)
        for side in ("before", "after")
        for operation in pair
        if step <= counts[operation]
    ]


def run_case(gateway: Gateway, case: str) -> str:
    """Run one round."""
    operation, what, number, side = case.split("/")[:4]
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = kill_at_step(gateway, operation, f"{what}:{number}:{side}")
    return round_.problem


def kill_everywhere(gateway: Gateway, operations: Sequence[str]) -> Struck:
    """Once at each step of operations that lead to and fro, counted undisturbed on this gateway first."""
    counts = {operation: count_entries(gateway, operation) for operation in operations}
    return strike_all(counts, lambda case: run_case(gateway, case))


def strike_all(counts: Mapping[str, int], bench: Bench) -> Struck:
    """Every counted step, and those after it that turn up; one that did not come is tried once more before it has missed."""
    found = Struck(counts)
    over: set[str] = set()
    for number in range(1, MOST_STEPS):
        for side in ("before", "after"):
            for operation in [each for each in counts if each not in over]:
                case = f"{operation}/step/{number}/{side}"
                problem = bench(case)
                if problem == MISSED and number <= counts[operation]:
                    problem = bench(case)
                if problem == MISSED and number > counts[operation]:
                    over.add(operation)
                elif problem == MISSED:
                    found.missed.append(case)
                elif problem:
                    found.wrong[case] = problem
    return found


CAMPAIGN = Campaign(
    name="steps",
    claim="killed before and after every journaled step of install, (failing) upgrade, roll-back, removal, also start-first: old or new",
    cases=cases,
    open=lambda folder: open_both(folder, run_case),
)
