"""Every journaled step of every operation, killed before and after, and every decision, twenty times over."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.gateway import OPERATIONS, Gateway, open_gateway
from tests.faults.lab.kill import count_entries, kill_at_step

ROUNDS = 20
ROUNDS_START_FIRST = 5
MOST_STEPS = 60
LEAST_STEPS = 5
"""Two containers, a network and a volume are made and started, or stopped and removed."""
BESIDE = "beside-"
"""Begins the operations in which the new version starts first, and serves beside the old one until it has proved itself."""
START_FIRST = tuple(BESIDE + operation for operation in ("upgrade", "rollback", "failing"))
STOP_FIRST = (("install", "remove"), ("upgrade", "rollback"), ("failing",))


@cache
def count_steps() -> Mapping[str, int]:
    """How many steps each operation journals, counted on real gateways that nothing disturbs."""
    counts: dict[str, int] = {}
    for operations in (OPERATIONS, START_FIRST):
        with (
            tempfile.TemporaryDirectory(prefix="ef", dir="/tmp") as folder,
            open_gateway(Path(folder), start_first=operations is START_FIRST) as gateway,
        ):
            counts |= {each: count_entries(gateway, each.removeprefix(BESIDE)) for each in operations}
    return counts


def cases() -> list[str]:
    """``upgrade/step/3/before/7``: operation, failpoint, round. Those that begin where others end follow each other."""
    counts = count_steps()
    return [
        f"{operation}/step/{step}/{side}/{number}"
        for number in range(ROUNDS)
        for pair in (STOP_FIRST if number >= ROUNDS_START_FIRST else (*STOP_FIRST, START_FIRST[:2], START_FIRST[2:]))
        for step in range(1, max(counts[operation] for operation in pair) + 1)
        for side in ("before", "after")
        for operation in pair
        if step <= counts[operation]
    ]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One gateway for all cases, and one whose APP is handed over start-first; one whose round went wrong begins anew."""
    with contextlib.ExitStack() as stack:

        @cache
        def gateway(start_first: bool) -> Gateway:
            root = folder / ("b" if start_first else "a")
            return stack.enter_context(open_gateway(root, warm=True, start_first=start_first))

        yield lambda case: run_case(gateway(case.startswith(BESIDE)), case.removeprefix(BESIDE))


def run_case(gateway: Gateway, case: str) -> str:
    """Run one round."""
    operation, what, number, side = case.split("/")[:4]
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = kill_at_step(gateway, operation, f"{what}:{number}:{side}")
    return round_.problem


def kill_everywhere(gateway: Gateway, operations: Sequence[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Once at each step of operations that lead to and fro: (what went wrong, how many steps each turned out to have)."""
    wrong: dict[str, str] = {}
    steps: dict[str, int] = {}
    for number in range(1, MOST_STEPS):
        for side in ("before", "after"):
            for operation in [each for each in operations if each not in steps]:
                case = f"{operation}/step/{number}/{side}"
                problem = run_case(gateway, case)
                if problem == MISSED:
                    steps[operation] = number - 1
                elif problem:
                    wrong[case] = problem
    return wrong, steps


CAMPAIGN = Campaign(
    name="steps",
    claim="killed before and after every journaled step of install, (failing) upgrade, roll-back, removal, also start-first: old or new",
    cases=cases,
    open=open_bench,
)
