"""The clock is decades wrong: 1970 and thirty years ahead. Deployments work, nothing is deleted, jobs end."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.lab.process import LabError, wait_until
from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle
from tests.faults.lab.strike import strike_in_time

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")
DAYS: dict[str, str] = {"1970": "@1970-01-01 00:00:30", "30-years-ahead": "+10957d"}
"""As libfaketime reads them: an absolute time from which the clock goes on, or an offset."""
OPERATIONS = ("install", "upgrade", "rollback", "failing", "remove")
ROUNDS = 4
LATEST_S = 1.0
A_YEAR_MS = 365 * 86_400_000


def cases() -> list[str]:
    """``1970/upgrade/0``: the agent starts on that day. ``jump-...``: the clock jumps there while the operation runs."""
    days = [*DAYS, *(f"jump-{day}" for day in DAYS)]
    return [f"{day}/{operation}/{number}" for number in range(ROUNDS) for day in days for operation in OPERATIONS]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One gateway, whose agent reads the day from a file."""
    with open_gateway(folder) as gateway:
        yield lambda case: run_case(gateway, case)


def run_case(gateway: Gateway, case: str) -> str:
    """One operation on a wrong day, or on a right one that turns wrong."""
    day, operation, _ = case.split("/")
    with gateway.begun_anew_after_trouble() as round_:
        if day in DAYS:
            round_.problem = go_through(gateway, operation, DAYS[day], None)
        else:
            wrong = DAYS[day.removeprefix("jump-")]
            delay_s = random.Random(case).uniform(0, LATEST_S)
            round_.problem = strike_in_time(delay_s, lambda after_s: go_through(gateway, operation, wrong, after_s))
    return round_.problem


def go_through(gateway: Gateway, operation: str, wrong: str, after_s: float | None) -> str:
    """One operation; the clock is wrong from its start (None), or so long after it began. Then it is right again.

    MISSED when the clock jumped, and the agent wrote the job's end down before it did.
    """
    gateway.prepare(operation)
    before, goal = gateway.version, gateway.goal(operation)
    expected = before if operation == "failing" else goal
    commands = len(gateway.jobs())
    day = gateway.root / "day"
    day.write_text(wrong if after_s is None else "+0d")
    gateway.agent.kill()
    gateway.agent.env = {
        "LD_PRELOAD": find_library(),
        "FAKETIME_TIMESTAMP_FILE": str(day),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with contextlib.ExitStack() as stack:
        stack.callback(gateway.agent.env.clear)
        gateway.agent.start()
        wait_until(lambda: gateway.version == before, "the agent knows its past", 10.0)
        job = gateway.begin(operation)
        if after_s is not None:
            time.sleep(after_s)
            turn(day, wrong)
        over = gateway.finish(job)
        # On a day on which no certificate holds the cloud hears nothing. It hears all of it when the clock is right.
        problem = settle(gateway, operation, before, goal, job, told=False)
        if not problem and gateway.version != expected:
            problem = f"on a wrong day {operation} led to {gateway.version or 'none'}, not {expected or 'none'}"
    if not problem and len(gateway.jobs()) < commands + 1:
        problem = f"of {commands + 1} jobs {len(gateway.jobs())} are left"
    gateway.agent.kill()
    gateway.agent.start()
    problem = problem or settle(gateway, operation, expected, expected, job)
    return problem or ("" if after_s is None or ended_elsewhen(over) else MISSED)


def turn(day: Path, to: str) -> None:
    """Write the day, all at once: it is read at every look at the clock."""
    scratch = day.with_suffix(".new")
    scratch.write_text(to)
    scratch.rename(day)


def ended_elsewhen(job: Mapping[str, Any]) -> bool:
    """Whether the clock jumped between the job's begin and its end, by what the agent wrote down."""
    return abs(int(job["updated_ms"]) - int(job["created_ms"])) > A_YEAR_MS


def find_library() -> str:
    """libfaketime for programs with threads."""
    for pattern in LIBRARIES:
        for path in Path("/").glob(pattern.lstrip("/")):
            return str(path)
    raise LabError("libfaketime is not installed", "run `make setup`")


CAMPAIGN = Campaign(
    name="clock",
    claim="the clock at 1970 or thirty years ahead, from the start or all at once: as on any other day, nothing deleted",
    cases=cases,
    open=open_bench,
)
