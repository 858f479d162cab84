"""The engine stands still for a while in the middle of an operation: the agent says so, answers all the time, and goes on."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import GatewayError
from deploy.lab.process import wait_until
from tests.faults.campaign import Bench, Campaign
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle

ROUNDS = 20
OPERATIONS = ("install", "upgrade", "rollback", "upgrade", "remove")
STANDS_S = (5.0, 20.0)
LATEST_S = 1.2
SAID_WITHIN_S = 45.0
"""The agent asks the engine every 15 s, and waits for its answer for as long as an answer may take."""


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One second engine and its gateway."""
    with SecondEngine(folder / "e") as second, open_gateway(folder, second) as gateway:
        yield lambda case: run_case(gateway, second, case)


def run_case(gateway: Gateway, second: SecondEngine, case: str) -> str:
    """``long/3`` stands still until the alarm is raised, ``short/3`` for 5 to 20 seconds."""
    kind, number = case.split("/")
    seeded = random.Random(case)
    with gateway.begun_anew_after_trouble() as round_:
        operation = OPERATIONS[int(number) % len(OPERATIONS)]
        gateway.prepare(operation)
        alarms = AlarmWatch(gateway)
        before, goal = gateway.version, gateway.goal(operation)
        job = ""
        with contextlib.suppress(GatewayError):
            job = gateway.begin(operation)
        time.sleep(seeded.uniform(0, LATEST_S))
        second.freeze()
        try:
            if kind == "long":
                wait_until(lambda: is_said(gateway), "an alarm that the engine is unreachable", SAID_WITHIN_S)
            else:
                silent = stand_still(gateway, seeded.uniform(*STANDS_S))
                round_.problem = silent
        finally:
            second.thaw()
        round_.problem = round_.problem or settle(gateway, operation, before, goal, job)
        round_.problem = round_.problem or alarms.check(must=["engine/unreachable"] if kind == "long" else ())
    return round_.problem


def is_said(gateway: Gateway) -> bool:
    """Whether the alarm stands."""
    return any(each["source"] == "engine" and each["code"] == "unreachable" for each in gateway.alarms())


def stand_still(gateway: Gateway, for_s: float) -> str:
    """Wait, asking the agent all the time."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if not gateway.agent.answers():
            return "the agent does not answer while the engine stands still"
        time.sleep(0.2)
    return ""


CAMPAIGN = Campaign(
    name="engine-frozen",
    claim="the engine stopped for 5 to 20 s, or until the alarm, in an operation: answers, says so, then old or new",
    cases=lambda: [f"{kind}/{n}" for n in range(ROUNDS // 2) for kind in ("short", "long")],
    open=open_bench,
)
