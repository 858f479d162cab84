"""The power of the whole machine fails at a seeded moment of an operation: agent, engine and containers, on one disk."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.lab.process import wait_until
from tests.faults.campaign import MISSED, Campaign, one_at_a_time
from tests.faults.campaigns.registry import SETTINGS, STALL_S, Shop, read_base
from tests.faults.lab import pump
from tests.faults.lab.gateway import Gateway
from tests.faults.lab.host import Host
from tests.faults.lab.invariants import check_state_files
from tests.faults.lab.strike import Begun, begin, strike_in_time
from tests.faults.oci import make_layer
from tests.faults.registry import FaultRegistry

KINDS = ("ext4", "ext4-noalloc", "xfs")
CUTS = 6
AMID, DONE = "amid", "done"
FETCH = "fetch"
"""An upgrade to an image that the machine has not got."""
OPERATIONS = ("install", "upgrade", FETCH, "rollback", "failing", "remove")
LATEST_S = 1.5
LITTLE_RESERVE = "policy: {capacity: {disk_reserve: 64M}}\n"
"""The disk is a small one."""
BIG = "big"
BIG_BYTES = 8_000_000


def cases() -> list[str]:
    """``xfs/7/upgrade/amid``: file system, number, operation, and whether the cut comes amid it or once it was told to be done."""
    return [
        f"{kind}/{n}/{operation}/{moment}"
        for kind in KINDS
        for n in range(CUTS)
        for operation in OPERATIONS
        for moment in (AMID, DONE)
        if operation != "failing" or moment == AMID
    ]


@dataclass(slots=True)
class Site:
    """A machine, its gateway, and where it gets its images. `sums`: image id to the digest of the file in it."""

    host: Host
    gateway: Gateway
    shop: Shop
    sums: dict[str, str] = field(default_factory=dict)

    def begin(self, operation: str, seeded: random.Random) -> Begun:
        """Begin the operation."""
        if operation != FETCH:
            return begin(self.gateway, operation)
        gateway, registry = self.gateway, self.shop.registry
        gateway.prepare("upgrade")
        before, goal = gateway.version, gateway.goal("upgrade")
        tag, big = seeded.randbytes(8).hex(), seeded.randbytes(BIG_BYTES)
        made = registry.put_image("pump", tag, [self.shop.base, make_layer({BIG: big})])
        self.sums[self.shop.image_id(made)] = hashlib.sha256(big).hexdigest()
        text = pump.manifest(goal, image=f"{registry.address}/pump:{tag}")
        job = gateway.agent.send("app.upgrade", {"instance": pump.INSTANCE, "manifest": text})["job"]
        return Begun(gateway, "upgrade", before, goal, str(job))

    def cut(self, begun: Begun, after_s: float) -> str:
        """Cut the power so long after the operation began, unless that is over by then, and boot."""
        time.sleep(after_s)
        if not begun.is_under_way():
            return begun.settle() or MISSED
        self.host.cut(self.gateway)
        problem = check_state_files(self.gateway.agent.state, self.gateway.root / "scratch")
        self.host.boot(self.gateway)
        return problem or begun.settle() or self.spoilt()

    def cut_after(self, begun: Begun, after_s: float) -> str:
        """Cut the power once the operation is over: what was told to be done stays."""
        if self.gateway.finish(begun.job)["state"] != "done":
            return f"{begun.operation} undisturbed ended as {self.gateway.job(begun.job)}"
        if begun.operation == "install":
            wait_until(lambda: self.gateway.data()[1] != "", "the volume has its token", 10.0)
            self.gateway.token = self.gateway.data()[1]
            begun = replace(begun, operation="upgrade")  # from now on its data may not be born anew
        time.sleep(after_s)
        self.host.cut(self.gateway)
        problem = check_state_files(self.gateway.agent.state, self.gateway.root / "scratch")
        self.host.boot(self.gateway)
        return problem or replace(begun, before=begun.goal).settle() or self.spoilt()

    def spoilt(self) -> str:
        """What is not as it was fetched in the image that a container runs on."""
        for each in self.gateway.engine.containers():
            image = str(self.gateway.engine.inspect(each["Id"])["Image"])
            name = each["Names"][0].lstrip("/")
            if image in self.sums:
                found = self.host.engine.docker("exec", name, "sha256sum", f"/{BIG}").split()[0]
                if found != self.sums[image]:
                    return f"{name} runs on a spoilt image: /{BIG} is {found}, not {self.sums[image]}"
        return ""


@contextmanager
def open_site(folder: Path, kind: str) -> Iterator[Site]:
    """A machine with a file system of that kind."""
    host = Host(folder, f"host-{kind}")
    with FaultRegistry() as registry:
        more = LITTLE_RESERVE + SETTINGS.format(address=registry.address, stall=STALL_S)
        with host.open(more) as gateway:
            yield Site(host, gateway, Shop(registry, read_base()))


def run_case(site: Site, case: str) -> str:
    """One cut."""
    (operation, moment), seeded = case.split("/")[2:], random.Random(case)
    delay_s = seeded.uniform(0, LATEST_S)
    with site.gateway.begun_anew_after_trouble() as round_:
        if moment == DONE:
            round_.problem = site.cut_after(site.begin(operation, seeded), delay_s)
        else:
            round_.problem = strike_in_time(delay_s, lambda after_s: site.cut(site.begin(operation, seeded), after_s))
    return round_.problem


CAMPAIGN = Campaign(
    name="host-cut",
    claim="the machine's power cut in an operation, agent and engine on one disk: old or new after the boot, on sound images",
    cases=cases,
    open=lambda folder: one_at_a_time(lambda kind: open_site(folder / kind, kind), run_case),
)
