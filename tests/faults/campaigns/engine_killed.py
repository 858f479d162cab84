"""The engine is killed at a seeded moment of an operation, and started again; with and without live-restore."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import GatewayError
from tests.faults.campaign import Bench, Campaign
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle

KILLS = 50
OPERATIONS = ("install", "upgrade", "rollback", "upgrade", "remove")
LATEST_S = 1.5
AWAY_S = (0.1, 3.0)


def cases() -> list[str]:
    """``restore/7`` and ``plain/7``: half of them with live-restore, one engine after the other."""
    return [f"{kind}/{number}" for kind in ("restore", "plain") for number in range(KILLS // 2)]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """A second engine and its gateway, per kind at need."""
    with contextlib.ExitStack() as stack:
        gateways: dict[str, Gateway] = {}

        def run(case: str) -> str:
            kind = case.split("/", maxsplit=1)[0]
            if kind not in gateways:
                stack.pop_all().close()
                second = stack.enter_context(SecondEngine(folder / kind / "e", live_restore=kind == "restore"))
                gateways.clear()
                gateways[kind] = stack.enter_context(open_gateway(folder / kind, second))
            return run_case(gateways[kind], case)

        yield run
        stack.pop_all().close()


def run_case(gateway: Gateway, case: str) -> str:
    """One kill."""
    second = gateway.second
    assert second is not None
    number = int(case.split("/")[1])
    seeded = random.Random(case)
    with gateway.begun_anew_after_trouble() as round_:
        operation = OPERATIONS[number % len(OPERATIONS)]
        gateway.prepare(operation)
        before, goal = gateway.version, gateway.goal(operation)
        job = ""
        with contextlib.suppress(GatewayError):
            job = gateway.begin(operation)
        time.sleep(seeded.uniform(0, LATEST_S))
        second.kill()
        time.sleep(seeded.uniform(*AWAY_S))
        if not gateway.agent.answers():
            round_.problem = "the agent does not answer while the engine is dead"
            second.start()
            return round_.problem
        second.start()
        round_.problem = settle(gateway, operation, before, goal, job)
    return round_.problem


CAMPAIGN = Campaign(
    name="engine-killed",
    claim="the engine killed during a deployment and started again, with and without live-restore: old or new",
    cases=cases,
    open=open_bench,
)
