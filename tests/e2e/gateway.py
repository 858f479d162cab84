"""A real agent process on the real engine, for tests: its folders, its files, and what docker says of it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.demo.agent import Agent
from deploy.lab import Broker
from deploy.lab.engine import docker


class Gateway(Agent):
    """An agent whose containers are found by its gateway's name."""

    def __init__(self, root: Path, gateway_id: str, broker: Broker | None = None) -> None:
        super().__init__(root / "etc", root / "var", root / "agent.log")
        self.gateway_id = gateway_id
        self.config.mkdir()
        cloud = ""
        if broker is not None:
            pair = broker.client(gateway_id)
            tls = {"ca": str(broker.pki.ca), "cert": str(pair.cert), "key": str(pair.key)}
            cloud = f"cloud: {json.dumps({'host': '127.0.0.1', 'port': broker.port, 'tls': tls})}\n"
        self.write(
            "gateway.yaml",
            f"identity: {{id: {gateway_id}}}\nengine: {{prefix: {gateway_id}}}\n{cloud}"
            "supervision: {first_delay: 1s, last_delay: 2s, healthy: 5s}\nwatch: {every: 200ms, settle: 50ms}\n",
        )

    def write(self, name: str, text: str) -> Path:
        """A configuration file."""
        path = self.config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def manifest(self, version: str, script: str, **extra: str) -> Path:
        """A manifest of one busybox service that runs `script`."""
        health = extra.pop("health", "within: 20s, stable_for: 1s")
        lines = "".join(f"    {key}: {value}\n" for key, value in extra.items())
        text = f"""\
        name: pump
        x-ec:
          version: "{version}"
          update: {{health: {{{health}}}}}
        services:
          main:
            image: ec/busybox:1
            command: ["sh", "-c", {json.dumps(script)}]
        """
        path = self.config.parent / f"pump-{version}.yaml"
        path.write_text(textwrap.dedent(text) + lines)
        return path

    def containers(self, instance: str = "pump") -> list[dict[str, Any]]:
        """What `docker inspect` says of the instance's containers, oldest first."""
        labels = (f"label=ec.gateway={self.gateway_id}", f"label=ec.app={instance}")
        ids = docker("ps", "-aq", *(word for label in labels for word in ("--filter", label))).split()
        # One that vanishes between the two commands is only missing in the answer.
        found = json.loads(docker("inspect", *ids, check=False)) if ids else []
        return sorted(found, key=lambda each: str(each["Created"]))

    def serving(self, instance: str = "pump") -> list[str]:
        """The scripts of the containers that run."""
        return [c["Config"]["Cmd"][-1] for c in self.containers(instance) if c["State"]["Running"]]


@contextmanager
def gateway(root: Path, gateway_id: str, broker: Broker | None = None) -> Iterator[Gateway]:
    """A gateway that runs and is ended."""
    made = Gateway(root, gateway_id, broker)
    made.start()
    try:
        yield made
    finally:
        made.end()
