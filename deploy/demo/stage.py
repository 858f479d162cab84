"""Everything that runs while the demo runs: started in order, remembered on disk, ended in reverse."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deploy.demo import keep, site
from deploy.demo.agent import Agent
from deploy.demo.cloud import Cloud
from deploy.demo.device import FieldDevice
from deploy.demo.manifests import Manifests
from deploy.lab import Broker, Child, LabError, Pki, Plant, Registry, Witness, ping_engine

BOILER_PORT, ANNEX_PORT = 5020, 5021


class Stage:
    """The lab of one demo. `open` starts all but the agent; `close` ends everything and tells what could not be ended.

    Two devices: `boiler`, which a rule protects, driven by modbus-1; and `annex`, which pump-guard protects, driven by
    modbus-2. `witness` is a mosquitto_sub that sees every message of this gateway, also those that come while it
    reconnects itself.
    """

    def __init__(self, build: Path) -> None:
        self.build = build
        mark = secrets.token_hex(2)
        self.gateway = f"demo-{mark}"
        self.prefix = f"ecd{mark}"
        # Under /tmp and short: a Unix socket's path ends at 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="ecdemo-", dir="/tmp"))
        self.plant = Plant()
        self.registry = Registry(self.directory / "registry")
        self.broker = Broker(self.directory / "broker", Pki(self.directory / "pki"))
        self.cloud = Cloud(self.directory, self.broker, self.gateway)
        self.manifests = Manifests(self.directory / "manifests", self.registry.address)
        self.agent = Agent(self.directory / "etc", self.directory / "var", self.directory / "agent.log")
        self.boiler: FieldDevice
        self.annex: FieldDevice
        self.witness: Witness

    @property
    def topics(self) -> str:
        """Where this gateway's topics begin."""
        return f"ec/1/{self.gateway}/"

    def open(self) -> None:
        """Start the lab, and write the gateway's files."""
        self.remember()
        ping_engine()
        self.registry.start()
        self.broker.start()
        self.plant.start()
        self.remember()
        self.boiler = FieldDevice("boiler", self.plant, BOILER_PORT, self.directory)
        self.annex = FieldDevice("annex", self.plant, ANNEX_PORT, self.directory)
        self.boiler.start()
        self.annex.start()
        self.witness = self.broker.subscribe(self.topics + "#", client_id="demo-witness")
        self.cloud.start()
        root = self.agent.config
        site.write_gateway(root, self.gateway, self.prefix, self.broker, self.registry.address)
        site.write_devices(root, {"modbus-1": self.boiler, "modbus-2": self.annex})
        site.write_rule(root, site.LIMIT_BAR)
        site.write_values(root, "modbus-2", site.SLOW_POLL_S)
        self.remember()

    def start_agent(self) -> float:
        """Start the agent (again); gives the seconds until it answered."""
        took_s = self.agent.start()
        self.remember()
        return took_s

    def start_broker(self) -> None:
        """Start the broker (again)."""
        self.broker.start()
        self.remember()

    def remember(self) -> None:
        """Write down what would have to be ended if this program were killed now."""
        keep.write(self.build, self.gateway, self.directory, self.registry.address, self.plant, self.children())

    def children(self) -> list[Child]:
        """The processes that run now."""
        found = [self.broker.process, self.registry.process, self.cloud.process, self.agent.process]
        for name in ("boiler", "annex"):
            device = getattr(self, name, None)
            found.append(device.process if device else None)
        found.append(self.witness.process if hasattr(self, "witness") else None)
        return [child for child in found if child is not None and child.alive]

    def close(self) -> list[str]:
        """End everything and keep the logs. Gives what could not be ended, in words; normally nothing."""
        trouble: list[str] = []

        def attempt(work: Callable[[], object]) -> None:
            try:
                work()
            except (LabError, OSError) as error:
                trouble.append(str(error))

        attempt(self.agent.end)
        attempt(self.cloud.stop)
        for name in ("boiler", "annex"):
            if hasattr(self, name):
                attempt(getattr(self, name).stop)
        attempt(self.plant.stop)
        if hasattr(self, "witness"):
            attempt(self.witness.end)
        attempt(self.broker.stop)
        attempt(self.registry.stop)
        attempt(lambda: keep.sweep_engine(self.gateway, self.registry.address))
        self.keep_logs()
        shutil.rmtree(self.directory, ignore_errors=True)
        attempt(
            lambda: trouble.extend(
                keep.anything_left(self.gateway, self.registry.address, self.plant.name, self.directory)
            )
        )
        if not trouble:
            keep.forget(self.build)
        return trouble

    def keep_logs(self) -> None:
        """Copy the logs to where they outlive the demo."""
        target = self.build / "demo-logs"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for log in [*self.directory.glob("*.log"), *self.directory.glob("*.jsonl"), *self.directory.glob("*/*.log")]:
            with suppress(OSError):
                shutil.copy(log, target / log.name)
