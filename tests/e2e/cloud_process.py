"""The lab cloud as a process of its own, and a gateway that is only a dialect and a link."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.cloud.dialects.ec import EcDialect
from agent.cloud.link import LinkSettings, PahoLink, Tls
from agent.domain.priority import Priority
from agent.ports import Stored
from cloud_stub.client import CloudClient, CloudError
from deploy.lab import Broker
from deploy.lab.process import Child, free_port, wait_until

GATEWAY = "gw-1"
DIALECT = EcDialect(GATEWAY)


class CloudProcess:
    """`eccloud serve` on a broker, with its database in a folder. Can be killed and started again."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.database = folder / "cloud.db"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.client = CloudClient(self.url)
        self._broker = broker
        self.log = folder / "cloud.log"
        self.child: Child | None = None

    def start(self) -> None:
        """Start it, and wait until it is connected to the broker."""
        pair = self._broker.client(Broker.CLOUD)
        self.child = Child(
            "eccloud",
            [
                sys.executable, "-m", "cloud_stub.cli", "serve", "--broker", f"127.0.0.1:{self._broker.port}",
                "--ca", str(self._broker.pki.ca), "--cert", str(pair.cert), "--key", str(pair.key),
                "--database", str(self.database), "--http", self.url.removeprefix("http://"),
            ],
            self.log,
        )  # fmt: skip
        wait_until(self.connected, "the lab cloud is connected", 20, child=self.child)

    def connected(self) -> bool:
        """Whether it answers, and has its broker."""
        try:
            return bool(self.client.get("/health")["broker"]["connected"])
        except CloudError:
            return False

    def kill(self) -> None:
        """As a power cut would."""
        assert self.child is not None
        self.child.kill()

    def end(self) -> int:
        """In good order; gives the exit code."""
        assert self.child is not None
        return self.child.end()

    def eccloud(self, *words: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run the command line against it."""
        argv = [sys.executable, "-m", "cloud_stub.cli", "--url", self.url, *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)


def data(seq: int, *, session: str = "s-1", samples: int = 3) -> Stored:
    """A batch of samples."""
    items = [{"p": "boiler/temp", "t": seq * 1000 + n, "v": n / 2} for n in range(samples)]
    payload = json.dumps({"items": items}, separators=(",", ":")).encode()
    return Stored(seq, session, Priority.NORMAL, "live", seq, "data", payload, samples, 1_700_000_000_000)


def publish(broker: Broker, record: Stored) -> None:
    """Publish a record as the gateway would, with a program that is not ours."""
    message = DIALECT.encode(record)
    broker.publish(message.topic, message.payload, cn=GATEWAY)


@asynccontextmanager
async def gateway(broker: Broker) -> AsyncIterator[PahoLink]:
    """The gateway's link, connected."""
    pair = broker.client(GATEWAY)
    settings = LinkSettings(
        "127.0.0.1",
        broker.port,
        GATEWAY,
        Tls(broker.pki.ca, pair.cert, pair.key),
        backoff_min_s=0.05,
        backoff_max_s=0.5,
    )
    link = PahoLink(settings, DIALECT.presence(False, "s-1"), DIALECT.subscriptions())
    changes = link.changes()
    await link.start()
    try:
        async with asyncio.timeout(15):
            await anext(changes)
        online = DIALECT.presence(True, "s-1")
        await link.publish(online.topic, online.payload, retain=True)
        yield link
    finally:
        await link.stop()
