"""Every connection to the engine is cut, the stream of events among them, at seeded moments of an operation."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab import engine_socket
from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.proxy import SocketProxy
from tests.faults.lab.strike import begin, strike_in_time

ROUNDS = 60
OPERATIONS = ("install", "upgrade", "rollback", "failing", "upgrade", "remove")
CUTS = 4
APART_S = 0.5


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """A gateway whose engine socket is a proxy's."""
    path = folder / "engine.sock"
    with SocketProxy(path, engine_socket()) as proxy, open_gateway(folder, agents_engine=path) as gateway:
        yield lambda case: run_case(gateway, proxy, case)


def run_case(gateway: Gateway, proxy: SocketProxy, case: str) -> str:
    """One operation with some cuts."""
    operation = OPERATIONS[int(case) % len(OPERATIONS)]
    with gateway.begun_anew_after_trouble() as round_:
        round_.problem = strike_in_time(APART_S, lambda apart_s: cut_often(gateway, proxy, operation, case, apart_s))
    return round_.problem


def cut_often(gateway: Gateway, proxy: SocketProxy, operation: str, seed: str, apart_s: float) -> str:
    """Cut a few times, at most so long apart, and at least once before the operation is over."""
    seeded = random.Random(seed)
    gateway.prepare(operation)
    alarms = AlarmWatch(gateway)
    begun = begin(gateway, operation)
    struck = 0
    for _ in range(CUTS):
        time.sleep(seeded.uniform(0, apart_s))
        struck += bool(proxy.cut() and begun.is_under_way())
    return begun.settle() or alarms.check() or ("" if struck else MISSED)


CAMPAIGN = Campaign(
    name="engine-cut",
    claim="every connection to the engine cut, its stream of events too, up to four times in an operation: old or new, one alarm at most",
    cases=lambda: [str(number) for number in range(ROUNDS)],
    open=open_bench,
)
