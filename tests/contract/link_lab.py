"""One lab for the link's contract, on the fake broker and on a real mosquitto with TLS client certificates."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from agent.cloud.link import LinkSettings, PahoLink, Tls
from agent.ports import CloudLink, Incoming, Outgoing
from deploy.lab import Broker
from tests.fakes.link import FakeBroker, FakeLink

GATEWAY = "gw"
ROOT = f"ec/1/{GATEWAY}"
WILL = Outgoing(f"{ROOT}/presence", b"offline", retain=True)
COMMAND = f"{ROOT}/command"
T = TypeVar("T")


class LinkLab(Protocol):
    """A broker, the cloud's side of it, and links to it."""

    def link(self, will: Outgoing | None = WILL, publish_timeout_s: float = 5.0) -> CloudLink: ...
    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None: ...
    def publish_many(self, topic: str, lines: Sequence[bytes]) -> None: ...
    def watch(self) -> Callable[[str], list[bytes]]:
        """Begin to listen; gives a function from a topic to the payloads seen on it."""
        ...

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class FakeLab:
    """On tests/fakes/link.py."""

    def __init__(self) -> None:
        self.broker = FakeBroker()

    def link(self, will: Outgoing | None = WILL, publish_timeout_s: float = 5.0) -> CloudLink:
        return FakeLink(self.broker, GATEWAY, will, [COMMAND], publish_timeout_s=publish_timeout_s)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None:
        self.broker.publish(topic, payload, retain=retain, expiry_s=expiry_s)

    def publish_many(self, topic: str, lines: Sequence[bytes]) -> None:
        for line in lines:
            self.publish(topic, line)

    def watch(self) -> Callable[[str], list[bytes]]:
        return lambda topic: [one.payload for one in self.broker.taken if one.topic == topic]

    def start(self) -> None:
        self.broker.start()

    def stop(self) -> None:
        self.broker.stop()

    def kill(self) -> None:
        self.broker.stop()

    def freeze(self) -> None:
        self.broker.freeze()

    def thaw(self) -> None:
        self.broker.thaw()


class RealLab:
    """On mosquitto."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def settings(self, **changes: object) -> LinkSettings:
        pair = self.broker.client(GATEWAY)
        tls = Tls(self.broker.pki.ca, pair.cert, pair.key)
        fields: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.broker.port,
            "client_id": GATEWAY,
            "tls": tls,
            "backoff_min_s": 0.05,
            "backoff_max_s": 0.4,
            **changes,
        }
        return LinkSettings(**fields)  # type: ignore[arg-type]

    def link(self, will: Outgoing | None = WILL, publish_timeout_s: float = 5.0) -> CloudLink:
        return PahoLink(self.settings(publish_timeout_s=publish_timeout_s), will, [COMMAND])

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None:
        extra = [] if expiry_s is None else ["-D", "publish", "message-expiry-interval", str(expiry_s)]
        self.broker.publish(topic, payload, retain=retain, extra=extra)

    def publish_many(self, topic: str, lines: Sequence[bytes]) -> None:
        pair = self.broker.client(Broker.CLOUD)
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.broker.port), "-q", "1", "-t", topic, "-l"]
        command += ["--cafile", str(self.broker.pki.ca), "--cert", str(pair.cert), "--key", str(pair.key)]
        subprocess.run(command, input=b"\n".join(lines) + b"\n", check=True, timeout=30)

    def watch(self) -> Callable[[str], list[bytes]]:
        witness = self.broker.subscribe("#")
        return lambda topic: [message.payload for message in witness.messages(topic)]

    def start(self) -> None:
        self.broker.start()

    def stop(self) -> None:
        self.broker.stop()

    def kill(self) -> None:
        self.broker.kill()

    def freeze(self) -> None:
        assert self.broker.process is not None
        self.broker.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.broker.process is not None
        self.broker.process.signal(signal.SIGCONT)


@asynccontextmanager
async def running(link: CloudLink) -> AsyncIterator[CloudLink]:
    """Start it, wait until it is connected, and stop it afterwards."""
    await link.start()
    try:
        await until(lambda: link.connected, "the link is connected")
        yield link
    finally:
        await link.stop()


async def until(holds: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
    """Poll until it holds."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"after {within_s:g} s it is still not so that {what}"
        await asyncio.sleep(0.01)


async def soon(iterator: AsyncIterator[T], within_s: float = 15.0) -> T:
    """The next thing, by a deadline."""
    async with asyncio.timeout(within_s):
        return await anext(iterator)


async def take(messages: AsyncIterator[Incoming], count: int) -> list[Incoming]:
    """The next `count` messages."""
    return [await soon(messages) for _ in range(count)]


async def nothing_more(iterator: AsyncIterator[Incoming], for_s: float = 0.3) -> None:
    """Nothing comes for a while. Ends the iterator."""
    try:
        async with asyncio.timeout(for_s):
            message = await anext(iterator)
    except TimeoutError:
        return
    raise AssertionError(f"unexpected: {message.topic} {message.payload[:80]!r}")


def payloads(messages: Sequence[Incoming]) -> list[bytes]:
    """What they carry."""
    return [message.payload for message in messages]
