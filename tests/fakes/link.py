"""A link and a broker in memory. They keep the promises of tests/contract/test_link_*.py, as the real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.domain.grants import matches
from agent.errors import Unreachable
from agent.ports import Incoming, Outgoing


@dataclass(frozen=True, slots=True)
class Held:
    """A message that the broker keeps for a session; `until_s` is on the broker's clock, None for ever."""

    topic: str
    payload: bytes
    retained: bool
    until_s: float | None


@dataclass(slots=True)
class SessionState:
    """What a broker remembers of a client: filters, messages to come, messages sent and not acknowledged."""

    filters: tuple[str, ...] = ()
    waiting: deque[Held] = field(default_factory=deque)
    in_flight: list[Held] = field(default_factory=list)


class FakeBroker:
    """Sessions, retained messages, QoS 1 with manual acknowledgement, message expiry. It begins stopped, or started.

    `taken` lists everything that links have published and the broker has acknowledged, in order.
    """

    def __init__(self, *, running: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.running = running
        self.frozen = False
        self.clock = clock
        self.taken: list[Outgoing] = []
        self._retained: dict[str, bytes] = {}
        self._sessions: dict[str, SessionState] = {}
        self._links: dict[str, FakeLink] = {}

    def start(self) -> None:
        """Take connections; every link that wants one connects."""
        self.running = True
        for link in list(self._links.values()):
            link.attach()

    def stop(self) -> None:
        """End all connections. Sessions and retained messages are on disk, as with a real broker."""
        self.running = self.frozen = False
        for link in list(self._links.values()):
            link.detach()

    def freeze(self) -> None:
        """Keep connections open and answer nothing, as a stopped process does."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False
        for link in list(self._links.values()):
            link.broker_thawed()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: float | None = None) -> None:
        """As another client would, the cloud for instance."""
        if retain:
            if payload:
                self._retained[topic] = payload
            else:
                self._retained.pop(topic, None)
        until_s = None if expiry_s is None else self.clock() + expiry_s
        for client_id, session in self._sessions.items():
            if any(matches(one, topic) for one in session.filters):
                session.waiting.append(Held(topic, payload, retained=False, until_s=until_s))
                self.deliver(client_id)

    def retained(self, topic: str) -> bytes | None:
        """What a new subscriber would be given first."""
        return self._retained.get(topic)

    def drop(self, client_id: str) -> None:
        """Break one client's connection from outside: its will is published, and it connects again."""
        link = self._links[client_id]
        link.detach()
        if link.will is not None:
            self.accept(link.will)
        link.attach()

    # ---- for FakeLink

    def enter(self, link: FakeLink) -> None:
        """A link wants a session, from now on."""
        self._links[link.client_id] = link
        link.attach()

    def leave(self, link: FakeLink) -> None:
        """A link wants none any more."""
        self._links.pop(link.client_id, None)

    def subscribe(self, client_id: str, filters: Sequence[str]) -> None:
        """A link has connected: what it had not acknowledged comes again, then the retained messages."""
        session = self._sessions.setdefault(client_id, SessionState())
        session.waiting.extendleft(reversed(session.in_flight))
        session.in_flight = []
        session.filters = tuple(filters)
        for topic, payload in self._retained.items():
            if any(matches(one, topic) for one in filters):
                session.waiting.append(Held(topic, payload, retained=True, until_s=None))
        self.deliver(client_id)

    def accept(self, message: Outgoing) -> None:
        """A link has published."""
        self.taken.append(message)
        self.publish(message.topic, message.payload, retain=message.retain)

    def acknowledge(self, client_id: str, held: Held) -> None:
        """A link has acknowledged."""
        session = self._sessions[client_id]
        session.in_flight = [other for other in session.in_flight if other is not held]
        self.deliver(client_id)

    def deliver(self, client_id: str) -> None:
        """Send what may be sent."""
        link, session = self._links.get(client_id), self._sessions[client_id]
        while link is not None and link.connected and session.waiting and len(session.in_flight) < link.receive_maximum:
            held = session.waiting.popleft()
            left_s = None if held.until_s is None else held.until_s - self.clock()
            if left_s is not None and left_s <= 0:
                continue
            session.in_flight.append(held)
            link.receive(held, None if left_s is None else round(left_s))


class FakeLink:
    """ports.CloudLink on a `FakeBroker`."""

    def __init__(
        self,
        broker: FakeBroker,
        client_id: str = "gw",
        will: Outgoing | None = None,
        subscriptions: Sequence[str] = (),
        *,
        receive_maximum: int = 32,
        publish_timeout_s: float = 10.0,
    ) -> None:
        self.client_id = client_id
        self.will = will
        self.receive_maximum = receive_maximum
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._publish_timeout_s = publish_timeout_s
        self._connected = False
        self._connections = 0
        self._lost = asyncio.Event()
        self._thawed = asyncio.Event()
        self._inbound: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self._listeners: list[asyncio.Queue[bool | None]] = []

    @property
    def connected(self) -> bool:
        """True while the broker runs and this link was started."""
        return self._connected

    def status(self) -> Mapping[str, Any]:
        """For people."""
        return {"connected": self._connected, "broker": "fake", "protocol": "5", "trouble": None}

    async def start(self) -> None:
        """Connect as soon as the broker runs."""
        self._broker.enter(self)

    async def stop(self) -> None:
        """Say goodbye with the will's own message, and end every iterator."""
        if self._connected and self.will is not None:
            with contextlib.suppress(Unreachable, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self.publish(self.will.topic, self.will.payload, qos=self.will.qos, retain=self.will.retain)
        self._broker.leave(self)
        self.detach()
        self._inbound.put_nowait(None)
        for listener in self._listeners:
            listener.put_nowait(None)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> None:
        """Return once the broker has it; Unreachable otherwise."""
        if not self._connected:
            raise Unreachable("cloud.offline", "no session with the broker")
        connection = self._connections
        await asyncio.sleep(0)
        if self._broker.frozen:
            await self._wait_for_thaw()
        if self._lost.is_set() or connection != self._connections:
            raise Unreachable("cloud.offline", "no session with the broker")
        self._broker.accept(Outgoing(topic, payload, qos, retain))

    async def messages(self) -> AsyncIterator[Incoming]:
        """Messages from the cloud; ends after `stop`."""
        while (message := await self._inbound.get()) is not None:
            yield message
        self._inbound.put_nowait(None)

    def changes(self) -> AsyncIterator[bool]:
        """True at each connect (at once when up already), False at each disconnect; ends after `stop`."""
        listener: asyncio.Queue[bool | None] = asyncio.Queue()
        if self._connected:
            listener.put_nowait(True)
        self._listeners.append(listener)
        return self._follow(listener)

    # ---- for FakeBroker

    def attach(self) -> None:
        """The broker takes connections."""
        if self._broker.running and not self._connected:
            self._connected = True
            self._connections += 1
            self._lost.clear()
            self._tell(True)
            self._broker.subscribe(self.client_id, self._subscriptions)

    def detach(self) -> None:
        """The connection has ended."""
        if self._connected:
            self._connected = False
            self._lost.set()
            self._tell(False)

    def broker_thawed(self) -> None:
        """A frozen broker goes on."""
        self._thawed.set()

    def receive(self, held: Held, expiry_left_s: int | None) -> None:
        """The broker sends a message."""
        connection = self._connections

        def acknowledge() -> None:
            if connection == self._connections and self._connected:
                self._broker.acknowledge(self.client_id, held)

        message = Incoming(held.topic, held.payload, held.retained, expiry_left_s, acknowledge)
        self._inbound.put_nowait(message)

    async def _follow(self, listener: asyncio.Queue[bool | None]) -> AsyncIterator[bool]:
        while (word := await listener.get()) is not None:
            yield word

    async def _wait_for_thaw(self) -> None:
        self._thawed.clear()
        waits = [asyncio.create_task(self._lost.wait()), asyncio.create_task(self._thawed.wait())]
        done, _ = await asyncio.wait(waits, timeout=self._publish_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        if not done:
            raise Unreachable("cloud.no_ack", "the broker did not acknowledge in time")

    def _tell(self, connected: bool) -> None:
        for listener in self._listeners:
            listener.put_nowait(connected)
