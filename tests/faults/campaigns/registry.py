"""The registry cuts, refuses, hangs, flips a bit, is dead for a while, or moves a tag between the check and the fetch."""

from __future__ import annotations

import io
import json
import random
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.lab.process import wait_until
from tests.faults.campaign import MISSED, Bench, Campaign
from tests.faults.lab import pump
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.kill import settle
from tests.faults.oci import Layer, make_layer
from tests.faults.registry import Fault, FaultRegistry

KINDS = ("cut", "flip", "unavailable", "busy", "hang", "no_range", "dead", "moved")
ROUNDS = 5
BIG_BYTES = 400_000
STALL_S = 1
SETTINGS = 'registries: {{allow: [docker.io, "{address}"], stall: {stall}s}}\n'


@dataclass(slots=True)
class Shop:
    """A registry that holds one runnable image per case."""

    registry: FaultRegistry
    base: Layer
    made: list[str] = field(default_factory=list)

    def put(self, tag: str, seeded: random.Random) -> str:
        """A new image under `tag`. Its id on an engine: the digest of its configuration."""
        digest = self.registry.put_image("pump", tag, [self.base, make_layer({"big": seeded.randbytes(BIG_BYTES)})])
        self.made.append(self.image_id(digest))
        return digest

    def image_id(self, digest: str) -> str:
        """What an engine calls the image of this manifest."""
        return str(self._manifest(digest)["config"]["digest"])

    def big_layer(self, digest: str) -> str:
        """The path of the layer that is fetched: the engine has the base."""
        return f"/blobs/{self._manifest(digest)['layers'][-1]['digest']}"

    def _manifest(self, digest: str) -> dict[str, Any]:
        return dict(json.loads(self.registry.manifests["pump", digest][1]))


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """One registry and one gateway that may use it. The images are taken off the engine at the end."""
    with FaultRegistry() as registry:
        shop = Shop(registry, read_base())
        settings = SETTINGS.format(address=registry.address, stall=STALL_S)
        try:
            with open_gateway(folder, more=settings) as gateway:
                yield lambda case: run_case(gateway, shop, case)
        finally:
            subprocess.run(["docker", "rmi", "--force", *shop.made], check=False, capture_output=True)


def run_case(gateway: Gateway, shop: Shop, case: str) -> str:
    """An upgrade to an image that is hard to get. It ends with the new version, on the very image that was checked."""
    kind, registry, seeded = case.split("/", maxsplit=1)[0], shop.registry, random.Random(case)
    with gateway.begun_anew_after_trouble() as round_:
        gateway.prepare("upgrade")
        before, goal = gateway.version, gateway.goal("upgrade")
        tag = case.replace("/", "-")
        first = shop.put(tag, seeded)
        registry.asked.clear()
        go_wrong(registry, kind, seeded, shop.big_layer(first))
        text = pump.manifest(goal, image=f"{registry.address}/pump:{tag}")
        job = str(gateway.agent.send("app.upgrade", {"instance": pump.INSTANCE, "manifest": text})["job"])
        if kind == "moved":
            wait_until(lambda: any("/blobs/" in each.path for each in registry.asked), "the fetch begins", 10.0)
            shop.put(tag, seeded)
        if kind == "dead":
            wait_until(lambda: len(registry.asked) > 1, "the registry was asked in vain", 20.0)
            if gateway.version != before or len(gateway.engine.containers()) != 2:
                round_.problem = "the old version did not go on while the registry was dead"
            registry.forgive()
        gateway.finish(job)
        struck = registry.has_failed()
        registry.forgive()
        round_.problem = round_.problem or settle(gateway, "upgrade", before, goal, job)
        if not round_.problem and gateway.version != goal:
            round_.problem = f"it ended with {gateway.version}: {gateway.job(job)['message']}"
        images = {gateway.engine.inspect(each["Id"])["Image"] for each in gateway.engine.containers()}
        if not round_.problem and images != {shop.image_id(first)}:
            round_.problem = f"{images} runs, and {shop.image_id(first)} was checked"
        round_.problem = round_.problem or ("" if struck else MISSED)
    return round_.problem


def go_wrong(registry: FaultRegistry, kind: str, seeded: random.Random, layer: str) -> None:
    """Plan the fault. What hangs is let go by the gateway's own stall time, not by the registry."""
    times = seeded.randint(1, 3)
    after = seeded.randrange(BIG_BYTES)
    if kind == "dead":
        registry.plan(Fault.UNAVAILABLE, times=-1)
    elif kind == "moved":
        registry.plan(Fault.SLOW, match=layer, times=2, rate=BIG_BYTES)
    elif kind == "flip":
        # Once: what is wrong twice is the registry's own doing, and given up.
        registry.plan(Fault.FLIP, match=layer)
    elif kind == "no_range":
        # Only what was cut is asked for from a byte on.
        registry.plan(Fault.CUT, match=layer, after=after)
        registry.plan(Fault.NO_RANGE, match=layer)
    else:
        registry.plan(Fault(kind), match=layer, times=times, after=1 if kind == "busy" else after)


def read_base() -> Layer:
    """The one layer of the image that the pump runs on."""
    saved = subprocess.run(["docker", "save", "ec/busybox:1"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (name,) = json.load(manifest)[0]["Layers"]
        layer = archive.extractfile(name)
        assert layer is not None
        return make_layer({}, tar=layer.read())


CAMPAIGN = Campaign(
    name="registry",
    claim="cut, 503, 429, hang, flipped bit, no ranges, dead for a while, tag moved after the check: the new version at last, as checked",
    cases=lambda: [f"{kind}/{number}" for number in range(ROUNDS) for kind in KINDS],
    open=open_bench,
)
