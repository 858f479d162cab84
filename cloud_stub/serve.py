"""The lab cloud as a process: builds its parts once, and runs until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uvicorn

from agent.cloud.link import LinkSettings, PahoLink, Tls
from cloud_stub.api import make_api
from cloud_stub.commander import Commander
from cloud_stub.reads import Reads
from cloud_stub.receiver import Pulse, Receiver, Writer
from cloud_stub.store import Store

log = logging.getLogger(__name__)

_UP = ("presence", "reply", "job", "event", "data", "reported", "reported/+")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Where the broker is, where the data lies, and where REST listens (loopback only).

    `tls` names three PEM files: the authority, this client's certificate and its key. `client_id` is its name at the
    broker, which may have to be the certificate's.
    """

    broker_host: str
    broker_port: int
    database: Path
    tls: tuple[Path, Path, Path] | None = None
    client_id: str = "cloud"
    http_host: str = "127.0.0.1"
    http_port: int = 8800


class Cloud:
    """The lab cloud's parts. Use as an async context manager: inside it, messages are received."""

    def __init__(self, settings: ServeSettings) -> None:
        self.link = PahoLink(
            LinkSettings(
                settings.broker_host,
                settings.broker_port,
                settings.client_id,
                None if settings.tls is None else Tls(*settings.tls),
                receive_maximum=200,
                backoff_max_s=5.0,
            ),
            None,
            [f"ec/1/+/{kind}" for kind in _UP],
        )
        self.store = Store(settings.database)
        self.reads = Reads(settings.database)
        self.writer = Writer()
        self.pulse = Pulse()
        self.commander = Commander(self.link, self.store, self.reads, self.writer)
        self.api = make_api(self.link, self.commander, self.reads, self.pulse)
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        receiver = Receiver(self.link, self.store, self.writer, self.pulse)
        self.tasks = [
            asyncio.create_task(receiver.run(), name="receiver"),
            asyncio.create_task(self.commander.follow(), name="desired"),
        ]
        await self.link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.link.stop()  # ends both tasks' iterators: the receiver keeps what it has, then returns
        _done, late = await asyncio.wait(self.tasks, timeout=10.0)
        for task in late:
            task.cancel()
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        self.writer.close()
        self.store.close()
        for one in ended:
            if isinstance(one, Exception):
                raise one


async def serve(settings: ServeSettings) -> None:
    """Run until SIGINT or SIGTERM. Raises ValueError when REST would listen beyond this machine."""
    if not ipaddress.ip_address(settings.http_host).is_loopback:
        raise ValueError(f"{settings.http_host} is not a loopback address, and this REST interface has no log-in")
    config = uvicorn.Config(
        app="",
        host=settings.http_host,
        port=settings.http_port,
        log_level="warning",
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    async with Cloud(settings) as cloud:
        config.app = cloud.api
        server = _Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        serving = asyncio.create_task(server.serve(), name="rest")
        try:
            await asyncio.wait([serving, *cloud.tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again once it has stopped serving, and end the process before ours has.
        yield


def openapi_text() -> str:
    """The OpenAPI document of the REST interface, as docs/cloud-stub.openapi.json holds it."""
    nothing: Any = None  # the routes are described, not called
    document = make_api(nothing, nothing, nothing, nothing).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
