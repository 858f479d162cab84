"""The engine's disk is full, or it has lost a bridge: the agent says so, what ran goes on, and all is well when it is mended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.process import LabError
from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.reach import check_reach
from tests.faults.lab.strike import Begun, begin, strike_in_time

FREE_KIB = (0, 4, 8, 16, 24, 32, 48, 64, 96)
OPERATIONS = ("install", "upgrade", "rollback", "remove")
BRIDGED = ("upgrade", "rollback")
LOSSES = 5
STANDS_S = 6.0
NO_FORESIGHT = "policy: {capacity: {disk_reserve: 1K}}\n"
"""Or else admission would see it coming. For little it does; a refusal that changes nothing is a good end too."""
Mend = Callable[[], object]
FULL = ("full", "filling")
BEFORE = ("full", "bridge")
_REFUSED = "admission.disk"
_NO_SPACE = "no space left on device"


def cases() -> list[str]:
    """``full/24/upgrade``: KiB that are left before it; ``filling/...``: once it is under way.

    ``bridge/...``: bridges are gone before it; ``losing/...``: once it is under way.
    """
    full = [
        f"{kind}/{free}/{operation}" for free in FREE_KIB for operation in OPERATIONS for kind in ("full", "filling")
    ]
    # A first installation makes its own bridge, and a removal needs none: they would not meet it.
    gone = [f"{kind}/{n}/{operation}" for n in range(LOSSES) for operation in BRIDGED for kind in ("bridge", "losing")]
    return [*full, *gone]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One second engine on a small disk, and its gateway."""
    with SecondEngine(folder / "e", size_mib=96) as second, open_gateway(folder, second, more=NO_FORESIGHT) as gateway:
        yield lambda case: run_case(gateway, second, case)


def run_case(gateway: Gateway, second: SecondEngine, case: str) -> str:
    """One operation in want of space or of a bridge; then it is mended."""
    kind, free, operation = case.split("/")
    strike = (lambda: fill(second, int(free))) if kind in FULL else (lambda: take_bridges(second))
    with gateway.begun_anew_after_trouble() as round_:
        if kind in BEFORE:
            round_.problem = strike_before(gateway, second, operation, strike)
        else:
            # At once, or not at all: where the operation was over all the same, the same moment is tried again.
            round_.problem = strike_in_time(0.0, lambda _: strike_amid(gateway, second, operation, strike))
    return round_.problem


def strike_before(gateway: Gateway, second: SecondEngine, operation: str, strike: Callable[[], Mend]) -> str:
    """The fault is there before the operation. MISSED when all was well and nobody met it."""
    gateway.prepare(operation)
    alarms, words = AlarmWatch(gateway), EngineWords(second)
    before, goal = gateway.version, gateway.goal(operation)
    job, refused = "", ""
    with contextlib.ExitStack() as stack:
        stack.callback(strike())
        try:
            job = gateway.begin(operation)
        except LabError as error:
            refused = str(error)
        problem = stand(gateway)
        met = alarms.met() or _REFUSED in refused or words.want_space()
    problem = problem or judge(gateway, Begun(gateway, operation, before, goal, job), alarms)
    return problem or ("" if met else MISSED)


def strike_amid(gateway: Gateway, second: SecondEngine, operation: str, strike: Callable[[], Mend]) -> str:
    """The fault comes while the operation is under way. MISSED when all was well and the operation over before it."""
    gateway.prepare(operation)
    alarms = AlarmWatch(gateway)
    begun = begin(gateway, operation)
    with contextlib.ExitStack() as stack:
        stack.callback(strike())
        struck = begun.is_under_way()
        problem = stand(gateway)
    return problem or judge(gateway, begun, alarms) or ("" if struck else MISSED)


def stand(gateway: Gateway) -> str:
    """Let the fault stand for a while; whether the agent answers then."""
    time.sleep(STANDS_S)
    return "" if gateway.agent.answers() else "the agent does not answer"


def judge(gateway: Gateway, begun: Begun, alarms: AlarmWatch) -> str:
    """What does not hold after the mending: the services do not only run, they reach each other."""
    return begun.settle() or check_reach(gateway) or alarms.check()


class EngineWords:
    """What the engine says in its log from now on."""

    def __init__(self, second: SecondEngine) -> None:
        self._log = second.folder / "dockerd.log"
        self._begin = self._log.stat().st_size

    def want_space(self) -> bool:
        """Whether it wanted space and had none."""
        with self._log.open() as log:
            log.seek(self._begin)
            return _NO_SPACE in log.read()


def fill(second: SecondEngine, free_kib: int) -> Mend:
    """Leave so many KiB of the engine's disk. Most is taken without being written: an operation is soon over."""
    bulk, ballast, rest = (second.data / name for name in ("bulk", "ballast", "rest"))
    left = f"$(df -k --output=avail {second.data} | tail -1)"
    fill_up = f"fallocate -l $(({left} - 1024))K {bulk}; head -c {free_kib}K /dev/zero > {rest}"
    script = f"{fill_up}; dd if=/dev/zero of={ballast} bs=4k 2>/dev/null; sync; rm -f {rest}; sync"
    second.run("sh", "-c", script)
    return lambda: second.run("rm", "-f", str(bulk), str(ballast))


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
