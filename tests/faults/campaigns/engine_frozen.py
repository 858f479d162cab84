"""The engine stands still for a while in the middle of an operation: the agent says so, answers all the time, and goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.process import wait_until
from tests.faults.campaign import MISSED, Bench, Campaign, went_wrong
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.strike import begin, strike_in_time

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
    operation = OPERATIONS[int(number) % len(OPERATIONS)]
    delay_s, stands_s = seeded.uniform(0, LATEST_S), seeded.uniform(*STANDS_S)
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = strike_in_time(
            delay_s,
            lambda after_s: freeze_once(gateway, second, operation, after_s, 0.0 if kind == "long" else stands_s),
        )
    return round_.problem


def freeze_once(gateway: Gateway, second: SecondEngine, operation: str, after_s: float, stands_s: float) -> str:
    """Freeze the engine so long after the operation began, unless that is over by then; 0: until the alarm is raised."""
    gateway.prepare(operation)
    alarms = AlarmWatch(gateway)
    begun = begin(gateway, operation)
    time.sleep(after_s)
    if not begun.is_under_way():
        return begun.settle() or MISSED
    second.freeze()
    problem = ""
    try:
        if not begun.is_under_way():
            problem = MISSED
        elif stands_s:
            problem = stand_still(gateway, stands_s)
        else:
            wait_until(lambda: is_said(gateway), "an alarm that the engine is unreachable", SAID_WITHIN_S)
    finally:
        second.thaw()
    if went_wrong(problem):
        return problem
    must = [] if stands_s or problem else ["engine/unreachable"]
    return begun.settle() or alarms.check(must=must) or problem


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
