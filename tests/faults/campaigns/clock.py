"""The clock is decades wrong: 1970 and thirty years ahead. Deployments work, nothing is deleted, jobs end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.process import LabError, wait_until
from tests.faults.campaign import Bench, Campaign
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")
DAYS: dict[str, str] = {"1970": "@1970-01-01 00:00:30", "30-years-ahead": "+10957d"}
"""As libfaketime reads them: an absolute time from which the clock goes on, or an offset."""
OPERATIONS = ("install", "upgrade", "rollback", "failing", "remove")
ROUNDS = 4


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
    """One operation on a wrong day; afterwards the clock is right again, and all must hold still."""
    day, operation, _ = case.split("/")
    jumps = day.startswith("jump-")
    with gateway.begun_anew_after_trouble() as round_:
        gateway.prepare(operation)
        before, goal = gateway.version, gateway.goal(operation)
        expected = before if operation == "failing" else goal
        commands = len(gateway.jobs())
        rc = gateway.root / "day"
        rc.write_text("+0d" if jumps else DAYS[day])
        gateway.agent.kill()
        gateway.agent.env = {
            "LD_PRELOAD": find_library(),
            "FAKETIME_TIMESTAMP_FILE": str(rc),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with contextlib.ExitStack() as stack:
            stack.callback(gateway.agent.env.clear)
            gateway.agent.start()
            wait_until(lambda: gateway.version == before, "the agent knows its past", 10.0)
            job = gateway.begin(operation)
            if jumps:
                rc.write_text(DAYS[day.removeprefix("jump-")])
            gateway.finish(job)
            # On a day on which no certificate holds the cloud hears nothing. It hears all of it when the clock is right.
            round_.problem = settle(gateway, operation, before, goal, job, told=False)
            if not round_.problem and gateway.version != expected:
                round_.problem = (
                    f"on a wrong day {operation} led to {gateway.version or 'none'}, not {expected or 'none'}"
                )
        if not round_.problem and len(gateway.jobs()) < commands + 1:
            round_.problem = f"of {commands + 1} jobs {len(gateway.jobs())} are left"
        gateway.agent.kill()
        gateway.agent.start()
        round_.problem = round_.problem or settle(gateway, operation, expected, expected, job)
    return round_.problem


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
