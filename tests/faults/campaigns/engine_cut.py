"""Every connection to the engine is cut, the stream of events among them, at seeded moments of an operation."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import GatewayError
from deploy.lab import engine_socket
from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle
from tests.faults.lab.proxy import SocketProxy

ROUNDS = 60
OPERATIONS = ("install", "upgrade", "rollback", "failing", "upgrade", "remove")
CUTS = 4


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """A gateway whose engine socket is a proxy's."""
    path = folder / "engine.sock"
    with SocketProxy(path, engine_socket()) as proxy, open_gateway(folder, agents_engine=path) as gateway:
        yield lambda case: run_case(gateway, proxy, case)


def run_case(gateway: Gateway, proxy: SocketProxy, case: str) -> str:
    """One operation with some cuts."""
    seeded = random.Random(case)
    with gateway.begun_anew_after_trouble() as round_:
        operation = OPERATIONS[int(case) % len(OPERATIONS)]
        gateway.prepare(operation)
        alarms = AlarmWatch(gateway)
        before, goal = gateway.version, gateway.goal(operation)
        job, cut = "", 0
        with contextlib.suppress(GatewayError):
            job = gateway.begin(operation)
        for _ in range(CUTS):
            time.sleep(seeded.uniform(0, 0.5))
            cut += proxy.cut()
        round_.problem = settle(gateway, operation, before, goal, job) or alarms.check()
        if not round_.problem and not cut:
            round_.problem = MISSED
    return round_.problem


CAMPAIGN = Campaign(
    name="engine-cut",
    claim="every connection to the engine cut, its stream of events too, four times in an operation: old or new, one alarm at most",
    cases=lambda: [str(number) for number in range(ROUNDS)],
    open=open_bench,
)
