"""The engine is killed at a seeded moment of an operation, and started again; with and without live-restore."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import MISSED, Campaign, one_at_a_time
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.strike import Begun, begin, strike_in_time

KILLS = 50
OPERATIONS = ("install", "upgrade", "rollback", "upgrade", "remove")
LATEST_S = 1.5
AWAY_S = (0.1, 3.0)


def cases() -> list[str]:
    """``restore/7`` and ``plain/7``: half of them with live-restore, one engine after the other."""
    return [f"{kind}/{number}" for kind in ("restore", "plain") for number in range(KILLS // 2)]


@contextmanager
def open_kind(folder: Path, kind: str) -> Iterator[Gateway]:
    """A second engine and its gateway."""
    with SecondEngine(folder / "e", live_restore=kind == "restore") as second, open_gateway(folder, second) as gateway:
        yield gateway


def run_case(gateway: Gateway, case: str) -> str:
    """One kill."""
    second = gateway.second
    assert second is not None
    operation = OPERATIONS[int(case.split("/")[1]) % len(OPERATIONS)]
    seeded = random.Random(case)
    delay_s, away_s = seeded.uniform(0, LATEST_S), seeded.uniform(*AWAY_S)
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = strike_in_time(
            delay_s, lambda after_s: kill_once(second, begin(gateway, operation), after_s, away_s)
        )
    return round_.problem


def kill_once(second: SecondEngine, begun: Begun, after_s: float, away_s: float) -> str:
    """Kill the engine so long after the operation began, unless that is over by then, and start it again."""
    time.sleep(after_s)
    if not begun.is_under_way():
        return begun.settle() or MISSED
    second.kill()
    try:
        struck = begun.is_under_way()
        time.sleep(away_s)
        problem = "" if begun.gateway.agent.answers() else "the agent does not answer while the engine is dead"
    finally:
        second.start()
    return problem or begun.settle() or ("" if struck else MISSED)


CAMPAIGN = Campaign(
    name="engine-killed",
    claim="the engine killed during a deployment and started again, with and without live-restore: old or new",
    cases=cases,
    open=lambda folder: one_at_a_time(lambda kind: open_kind(folder / kind, kind), run_case),
)
