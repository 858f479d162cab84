"""An upgrade that never becomes healthy, a hundred times: a hundred times back on the old version and the old data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import Bench, Campaign
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.invariants import wait_converged

TIMES = 100


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One gateway for all of them."""
    with open_gateway(folder) as gateway:
        yield lambda case: run_case(gateway, case)


def run_case(gateway: Gateway, case: str) -> str:
    """One upgrade to the version that writes what no other reads, and crashes. Between two, a good one now and then."""
    with gateway.begun_anew_after_trouble() as round_:
        if int(case) % 10 == 5:
            gateway.prepare("upgrade")
            gateway.complete("upgrade")
        gateway.prepare("failing")
        before, data = gateway.version, gateway.data()
        gateway.complete("failing")
        round_.problem = wait_converged(gateway, (before,))
        if not round_.problem and gateway.data() != data:
            round_.problem = f"the data were {data} and are {gateway.data()}"
    return round_.problem


CAMPAIGN = Campaign(
    name="never-healthy",
    claim="an upgrade that never becomes healthy: back on the old version and the old data",
    cases=lambda: [str(number) for number in range(TIMES)],
    open=open_bench,
)
