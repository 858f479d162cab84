"""The engine's disk is full, or it has lost a bridge: the agent says so, what ran goes on, and all is well when it is mended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import GatewayError
from deploy.lab.process import LabError
from tests.faults.campaign import Bench, Campaign
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle

FREE_KIB = (0, 4, 8, 16, 24, 32, 48, 64, 96)
OPERATIONS = ("install", "upgrade", "rollback", "remove")
STANDS_S = 6.0
NO_FORESIGHT = "policy: {capacity: {disk_reserve: 1K}}\n"
"""Or else admission would see it coming. For little it does; a refusal that changes nothing is a good end too."""
Mend = Callable[[], object]


def cases() -> list[str]:
    """``full/24/upgrade``: KiB that are left before; ``filling/...``: once it is admitted; ``bridge/...``: bridges are gone."""
    full = [
        f"{kind}/{free}/{operation}" for free in FREE_KIB for operation in OPERATIONS for kind in ("full", "filling")
    ]
    return [*full, *(f"bridge/{n}/{operation}" for n in range(5) for operation in OPERATIONS)]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One second engine on a small disk, and its gateway."""
    with SecondEngine(folder / "e", size_mib=96) as second, open_gateway(folder, second, more=NO_FORESIGHT) as gateway:
        yield lambda case: run_case(gateway, second, case)


def run_case(gateway: Gateway, second: SecondEngine, case: str) -> str:
    """One operation in want of space or of a bridge; then it is mended."""
    kind, free, operation = case.split("/")
    with gateway.begun_anew_after_trouble() as round_:
        gateway.prepare(operation)
        alarms = AlarmWatch(gateway)
        before, goal = gateway.version, gateway.goal(operation)
        job = ""
        with contextlib.ExitStack() as stack:
            if kind != "filling":
                stack.callback(fill(second, int(free)) if kind == "full" else take_bridges(second))
            with contextlib.suppress(GatewayError, LabError):
                job = gateway.begin(operation)
            if kind == "filling":
                stack.callback(fill(second, int(free)))
            time.sleep(STANDS_S)
            if not gateway.agent.answers():
                round_.problem = "the agent does not answer"
        round_.problem = round_.problem or settle(gateway, operation, before, goal, job) or alarms.check()
    return round_.problem


def fill(second: SecondEngine, free_kib: int) -> Mend:
    """Leave so many KiB of the engine's disk."""
    ballast, rest = second.data / "ballast", second.data / "rest"
    fill_up = f"head -c {free_kib}K /dev/zero > {rest}; dd if=/dev/zero of={ballast} bs=4k 2>/dev/null; sync"
    script = f"{fill_up}; rm -f {rest}; sync"
    second.run("sh", "-c", script)
    return lambda: second.run("rm", "-f", str(ballast))


def take_bridges(second: SecondEngine) -> Mend:
    """Remove every bridge in the engine's namespace. Only its next start brings back docker0; the APP's own is ours to mend."""
    links = second.run("ip", "-o", "link", "show", "type", "bridge").splitlines()
    names = [line.split(":")[1].strip() for line in links]
    for name in names:
        second.run("ip", "link", "del", name)

    def mend() -> None:
        second.kill()
        second.start()

    return mend


CAMPAIGN = Campaign(
    name="engine-ill",
    claim="the engine's disk full (0 to 96 KiB free) or its bridges gone in an operation, then mended: old or new, one alarm each",
    cases=cases,
    open=open_bench,
)
