"""`PahoLink`: ports.CloudLink over MQTT. The loop's side of the link, and the thread that never gives up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from paho.mqtt.client import MQTTMessage

from agent.cloud.link.backoff import Backoff
from agent.cloud.link.handover import Changes, Inbound
from agent.cloud.link.options import LinkSettings
from agent.cloud.link.session import IN_FLIGHT_MAX, V5, V311, Publication, Session, offline
from agent.cloud.link.trouble import Trouble
from agent.errors import GatewayError, Unreachable
from agent.ports import Incoming, Outgoing

log = logging.getLogger(__name__)

_WATCH_S = 1.0
_STALLED_S = 120.0  # longer than any connect, name look-up and handshake
_GOODBYE_S = 2.0
_JOIN_S = 5.0


class PahoLink:
    """One session with the broker, MQTT 5, or 3.1.1 where the broker has no 5.

    It connects by itself and for ever. `publish` never queues while offline. A message from the cloud stays the
    broker's until its `ack` is called; while too many wait, no more are taken. `will` is what the broker says when
    this client vanishes, and what `stop` says itself.
    """

    def __init__(self, settings: LinkSettings, will: Outgoing | None, subscriptions: Sequence[str]) -> None:
        self._settings = settings
        self._will = will
        self._subscriptions = tuple(subscriptions)
        self._inbound = Inbound(2 * settings.receive_maximum, 2 * settings.receive_maximum * settings.max_packet_bytes)
        self._changes = Changes()
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._acks: deque[tuple[Session, int, int]] = deque()
        self._outgoing: deque[Publication] = deque()
        self._publishing = 0
        self._session: Session | None = None  # the loop's view: the session that is up
        self._thread: threading.Thread | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False
        self._poked = False
        self._beat_s = time.monotonic()
        self._overflowed = False
        self._held_back = False
        self._protocol = V5
        self._mute = 0  # connections that ended without CONNACK, in a row
        self._trouble: Trouble | None = None
        self._counts = {"sessions": 0, "received": 0, "published": 0, "overflows": 0, "thread_restarts": 0}
        self._loop: asyncio.AbstractEventLoop
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

    @property
    def connected(self) -> bool:
        """True while a session is up and its subscriptions stand."""
        return self._session is not None

    def status(self) -> Mapping[str, Any]:
        """For people: connected, protocol, failures in a row, the last trouble (code, message, hint), counters."""
        return {
            "connected": self.connected,
            "broker": f"{self._settings.host}:{self._settings.port}",
            "protocol": "5" if self._protocol == V5 else "3.1.1",
            "attempts": self._backoff.attempts,
            "trouble": None if self._trouble is None else self._trouble.as_dict(),
            "waiting": self._inbound.waiting,
            **self._counts,
        }

    async def start(self) -> None:
        """Begin to connect; returns at once, whether or not a broker is there."""
        self._loop = asyncio.get_running_loop()
        self._start_thread()
        self._watcher = asyncio.create_task(self._watch(), name="cloud-link-watch")

    async def stop(self) -> None:
        """Say goodbye with the will's own message, disconnect, end every iterator. Not to be started again."""
        if self.connected and self._will is not None:
            with contextlib.suppress(GatewayError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await self.publish(
                        self._will.topic, self._will.payload, qos=self._will.qos, retain=self._will.retain
                    )
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._poke()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _JOIN_S)
        self._settle_all(offline())
        self._went_down(self._session)
        self._inbound.close()
        self._changes.close()
        if self._thread is None or not self._thread.is_alive():
            self._wake_read.close()
            self._wake_write.close()

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> None:
        """Return after the broker's acknowledgement (qos 0: after it was written).

        Raises Unreachable when there is no session, when it breaks, when the broker refuses, when 64 others wait, or
        when no acknowledgement comes within `publish_timeout_s`; TooLarge when the broker takes no such packet.
        `expiry_s` is how long the broker may keep it (MQTT 5).
        """
        session = self._session
        if session is None:
            raise offline()
        if self._publishing >= IN_FLIGHT_MAX:
            raise Unreachable(
                "cloud.link_full", f"{IN_FLIGHT_MAX} messages wait for the broker", hint="send fewer at once"
            )
        future: asyncio.Future[None] = self._loop.create_future()
        publication = Publication(session, Outgoing(topic, payload, qos, retain), expiry_s, self._settler(future))
        self._publishing += 1
        try:
            self._outgoing.append(publication)
            self._poke()
            async with asyncio.timeout(self._settings.publish_timeout_s):
                await future
            self._counts["published"] += 1
        except TimeoutError:
            raise Unreachable(
                "cloud.no_ack",
                f"the broker did not acknowledge {topic} within {self._settings.publish_timeout_s:g} s",
                hint="the link is slow or half-open; the message may arrive twice",
            ) from None
        finally:
            publication.abandoned = True
            self._publishing -= 1

    async def messages(self) -> AsyncIterator[Incoming]:
        """Messages from the cloud, for one consumer; ends after `stop`."""
        while (message := await self._inbound.take()) is not None:
            yield message
            if self._held_back and self._inbound.room:
                self._held_back = False
                self._poke()

    def changes(self) -> AsyncIterator[bool]:
        """True at each connect (at once when up already), False at each disconnect; ends after `stop`."""
        return self._changes.listen()

    # ---- the loop's side, called through `_tell`

    def _went_up(self, session: Session) -> None:
        if self._session is None and not self._stopping:
            self._session = session
            self._changes.tell(True)

    def _went_down(self, session: Session | None) -> None:
        if session is not None and self._session is session:
            self._session = None
            self._changes.tell(False)

    def _settler(self, future: asyncio.Future[None]) -> Callable[[GatewayError | None], None]:
        def settle(error: GatewayError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        return lambda error: self._tell(settle, error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            thread = self._thread
            silent_s = time.monotonic() - self._beat_s
            if thread is not None and thread.is_alive() and silent_s < _STALLED_S:
                continue
            log.error("cloud.thread_dead alive=%s silent_s=%.0f", thread is not None and thread.is_alive(), silent_s)
            self._counts["thread_restarts"] += 1
            self._went_down(self._session)
            self._start_thread()

    def _start_thread(self) -> None:
        self._beat_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="cloud-link", daemon=True)
        self._thread.start()

    # ---- the network thread

    def _run(self) -> None:
        while self._mine():
            session = Session(self._settings, self._next_protocol(), self._will, self._subscriptions, self)
            started_s = time.monotonic()
            try:
                session.serve(self._wake_read)
            except Exception:
                log.exception("cloud.session_fault broker=%s", session.address)
            finally:
                self._tell(self._went_down, session)
            if self._mine():
                self._note_end(session, time.monotonic() - started_s)

    def _mine(self) -> bool:
        """False once this thread is to end, or was given up as stalled and replaced by another."""
        self._beat_s = time.monotonic()
        return not self._stopping and threading.current_thread() is self._thread

    def _next_protocol(self) -> Any:
        # Some brokers without MQTT 5 just close the connection: every second attempt after two of those asks for 3.1.1.
        if self._protocol == V5 and self._mute >= 2 and self._mute % 2 == 0:
            return V311
        return self._protocol

    def _note_end(self, session: Session, lasted_s: float) -> None:
        if session.version_refused:
            self._protocol = V311
            log.info("cloud.protocol_fallback broker=%s protocol=3.1.1", session.address)
            return
        trouble = session.trouble
        if trouble is not None and trouble.code == "cloud.overflow":
            log.info("%s broker=%s", trouble.code, session.address)
            return
        answered = session.acknowledged or trouble is None or trouble.code == "cloud.broker_down"
        self._mute = 0 if answered else self._mute + 1
        if session.acknowledged:
            self._backoff.note_session(lasted_s)
        delay_s = self._backoff.next_delay_s()
        if trouble is not None:
            level = logging.WARNING if session.acknowledged or trouble != self._trouble else logging.DEBUG
            log.log(level, "%s message=%r hint=%r retry_s=%.1f", trouble.code, trouble.message, trouble.hint, delay_s)
            self._trouble = trouble
        self._rest(delay_s)

    def _rest(self, delay_s: float) -> None:
        end_s = time.monotonic() + delay_s
        while self._mine() and (left_s := end_s - time.monotonic()) > 0:
            self._settle_all(offline())
            self._wake_read.settimeout(min(left_s, 1.0))
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self._wake_read.recv(4096)
            self._poked = False
        self._wake_read.setblocking(False)

    def keep_on(self, session: Session) -> bool:
        """Network thread, every turn. False ends the session: to stop, or to have messages sent again."""
        self._poked = False
        if not self._mine():
            return False
        if self._overflowed and self._inbound.waiting == 0:
            # What did not fit was not acknowledged. The broker sends it again on a new connection, and only then.
            self._overflowed = False
            session.trouble = Trouble(
                "cloud.overflow", "more messages came than fit", "connecting again to have the rest sent"
            )
            return False
        return True

    def went_up(self, session: Session) -> None:
        """Network thread: the session is ready to send and to hear."""
        self._protocol = session.protocol
        self._mute = 0
        self._counts["sessions"] += 1
        self._trouble = session.trouble
        log.info("cloud.up broker=%s protocol=%s", session.address, "5" if session.protocol == V5 else "3.1.1")
        if session.trouble is not None:
            log.error("%s message=%r hint=%r", session.trouble.code, session.trouble.message, session.trouble.hint)
        self._tell(self._went_up, session)

    def received(self, session: Session, message: MQTTMessage, expiry_left_s: int | None) -> None:
        """Network thread: hand a message over, or leave it un-acknowledged when there is no room."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Nobody could answer it, and un-acknowledged it would hold a place for ever.
            self._acks.append((session, message.mid, message.qos))
            log.warning("cloud.topic_not_utf8 mid=%d", message.mid)
            return
        payload = bytes(message.payload)
        if not self._inbound.reserve(len(payload)):
            self._counts["overflows"] += 1
            self._overflowed = True
            return
        self._counts["received"] += 1
        ack = self._acknowledger(session, message.mid, message.qos)
        self._tell(self._inbound.put, Incoming(topic, payload, bool(message.retain), expiry_left_s, ack))

    def has_room(self) -> bool:
        """Network thread: whether to read on. Once False, the reader of `messages` pokes as soon as there is."""
        if self._inbound.room:
            return True
        self._held_back = True
        return self._inbound.room  # it may have been made before the flag was seen

    def next_publication(self) -> Publication | None:
        """Network thread: what is to be sent next."""
        return self._outgoing.popleft() if self._outgoing else None

    def next_ack(self) -> tuple[Session, int, int] | None:
        """Network thread: what is to be acknowledged next."""
        return self._acks.popleft() if self._acks else None

    def _acknowledger(self, session: Session, mid: int, qos: int) -> Callable[[], None]:
        called = False

        def acknowledge() -> None:
            nonlocal called
            if qos and not called:
                called = True
                self._acks.append((session, mid, qos))
                self._poke()

        return acknowledge

    # ---- either side

    def _settle_all(self, error: GatewayError) -> None:
        while self._outgoing:
            self._outgoing.popleft().settle(error)

    def _poke(self) -> None:
        if not self._poked:
            self._poked = True
            with contextlib.suppress(OSError):  # closed, or so full that it is readable anyway
                self._wake_write.send(b"!")

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has been closed without stop(): nobody is left to serve
            self._stopping = True
