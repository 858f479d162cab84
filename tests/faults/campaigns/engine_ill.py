"""The engine's disk is full, or it has lost a bridge: the agent says so, what ran goes on, and all is well when it is mended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.process import LabError, wait_until
from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab.alarms import AlarmWatch
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.reach import check_reach
from tests.faults.lab.strike import Begun, begin, strike_in_time

FREE_KIB = (0, 4, 8, 16, 24, 32, 48, 64, 96)
OPERATIONS = ("install", "upgrade", "rollback", "remove")
BRIDGED = ("upgrade", "rollback")
AT_REST = "rest"
LOSSES = 5
APART_S = 0.05
STANDS_S = 6.0
NO_FORESIGHT = "policy: {capacity: {disk_reserve: 1K}}\n"
"""Or else admission would see it coming. For little it does; a refusal that changes nothing is a good end too."""
Mend = Callable[[], object]
FULL = ("full", "filling")
BEFORE = ("full", "bridge")
_REFUSED = "admission.disk"
FORBIDDEN = 403
_NO_SPACE = "no space left on device"


def cases() -> list[str]:
    """``full/24/upgrade``: KiB that are left before it; ``filling/...``: once it is under way.

    ``bridge/...``: bridges are gone before it; ``losing/...``: once it is under way. ``losing/0/rest``: nothing is under way.
    """
    space = [f"{kind}/{free}/{operation}" for free in FREE_KIB for operation in OPERATIONS for kind in FULL]
    # A removal needs no space: it would not meet a disk that is full already.
    space = [case for case in space if not (case.startswith("full/") and case.endswith("/remove"))]
    # A first installation makes its own bridge, and a removal needs none: they would not meet it.
    gone = [f"{kind}/{n}/{operation}" for n in range(LOSSES) for operation in BRIDGED for kind in ("bridge", "losing")]
    lost = [f"losing/{n}/{operation}" for n in range(LOSSES) for operation in ("install", AT_REST)]
    return [*space, *gone, *lost]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One second engine on a small disk, and its gateway."""
    with SecondEngine(folder / "e", size_mib=96) as second, open_gateway(folder, second, more=NO_FORESIGHT) as gateway:
        yield lambda case: run_case(gateway, second, case)


def run_case(gateway: Gateway, second: SecondEngine, case: str) -> str:
    """One operation in want of space or of a bridge; then it is mended."""
    kind, free, operation = case.split("/")
    strike = (lambda: fill(second, int(free))) if kind in FULL else (lambda: take_bridges(second))
    if (kind, operation) == ("losing", "install"):
        strike = lambda: take_new_bridge(second, int(free) * APART_S)  # noqa: E731
    with gateway.begun_anew_after_trouble() as round_:
        if operation == AT_REST:
            round_.problem = strike_at_rest(gateway, strike, restart=int(free) % 2 == 1)
        elif kind in BEFORE:
            round_.problem = strike_before(gateway, second, operation, strike)
        else:
            # At once, or not at all: where the operation was over all the same, the same moment is tried again.
            round_.problem = strike_in_time(
                0.0, lambda _: strike_amid(gateway, operation, strike, may_refuse=kind in FULL)
            )
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


def strike_amid(gateway: Gateway, operation: str, strike: Callable[[], Mend], *, may_refuse: bool) -> str:
    """The fault comes while the operation is under way. MISSED when all was well and the operation over before it."""
    gateway.prepare(operation)
    alarms = AlarmWatch(gateway)
    begun = begin(gateway, operation)
    with contextlib.ExitStack() as stack:
        stack.callback(strike())
        struck = begun.is_under_way()
        problem = stand(gateway)
    problem = problem or judge(gateway, begun, alarms)
    # What admission sees coming it refuses (403), and nothing is changed: a good end too.
    refused = may_refuse and gateway.job(begun.job)["error_status"] == FORBIDDEN
    if operation == "install" and not problem and not refused and gateway.version != begun.goal:
        problem = "a first installation did not survive what was the engine's fault"
    return problem or ("" if struck else MISSED)


def strike_at_rest(gateway: Gateway, strike: Callable[[], Mend], *, restart: bool) -> str:
    """Bridges go under an APP at rest, and nothing fails: it is noticed, and mended without a restart of anything.

    `restart`: the engine is killed and started first; it makes the bridge anew, and nobody is on it.
    """
    gateway.prepare(AT_REST)
    alarms, version = AlarmWatch(gateway), gateway.version
    before, networks = began(gateway), network_ids(gateway)
    with contextlib.ExitStack() as stack:
        stack.callback(strike())
        if restart:
            stack.close()
        problem = check_reach(gateway)
    problem = problem or judge(gateway, Begun(gateway, AT_REST, version, version, ""), alarms)
    if not problem and began(gateway) != before:
        problem = "a container was restarted or made anew"
    return problem or (MISSED if network_ids(gateway) == networks else "")


def began(gateway: Gateway) -> dict[str, str]:
    """When each container was started."""
    ids = [str(each["Id"]) for each in gateway.engine.containers()]
    return {id_: str(gateway.engine.inspect(id_)["State"]["StartedAt"]) for id_ in ids}


def network_ids(gateway: Gateway) -> set[str]:
    """The networks that its containers are on, by an id that a network made anew does not have."""
    found = [gateway.engine.inspect(id_)["NetworkSettings"]["Networks"].values() for id_ in began(gateway)]
    return {str(wire["NetworkID"]) for wires in found for wire in wires}


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


def bridges(second: SecondEngine) -> list[str]:
    """The bridges in the engine's namespace."""
    links = second.run("ip", "-o", "link", "show", "type", "bridge").splitlines()
    return [line.split(":")[1].strip() for line in links]


def take_new_bridge(second: SecondEngine, after_s: float) -> Mend:
    """As `take_bridges`, a while after the bridge of a first installation came."""
    wait_until(lambda: bridges(second) != ["docker0"], "the APP's bridge is there", 10.0)
    time.sleep(after_s)
    return take_bridges(second)


def take_bridges(second: SecondEngine) -> Mend:
    """Remove every bridge in the engine's namespace. Only its next start brings back docker0; the APP's own is ours to mend."""
    names = bridges(second)
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
