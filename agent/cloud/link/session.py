"""One MQTT connection from CONNECT to its end, served by the network thread alone.

paho is used as a codec with an external loop: every call to it is made in the network thread, so none of its locks,
its own thread or its unbounded offline queue is ever in play. A new connection gets a new client: what was in flight
on the old one has already failed at its sender, who decides about sending it again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.cloud.link.options import LinkSettings
from agent.cloud.link.trouble import Trouble, explain_error, explain_refusal, explain_text
from agent.errors import GatewayError, TooLarge, Unreachable
from agent.ports import Outgoing

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
IN_FLIGHT_MAX = 64
_UNSUPPORTED_VERSION = 132
_TURN_S = 1.0  # the longest wait of one turn; keep-alive and the thread's heartbeat hang on it
_PAUSE_MAX_S = 5.0  # less than the wait for a PUBACK, which may stand behind what is not read, and than keep-alive
_PACKET_OVERHEAD_BYTES = 64


@dataclass(slots=True, eq=False)
class Publication:
    """A message to publish, and how to tell its sender: `settle(None)` after PUBACK, else with the error."""

    session: Session
    message: Outgoing
    expiry_s: int | None
    settle: Callable[[GatewayError | None], None]
    abandoned: bool = False


class Owner(Protocol):
    """What the link does for its session, all of it in the network thread."""

    def received(self, session: Session, message: MQTTMessage, expiry_left_s: int | None) -> None: ...
    def went_up(self, session: Session) -> None: ...
    def next_publication(self) -> Publication | None: ...
    def next_ack(self) -> tuple[Session, int, int] | None: ...
    def has_room(self) -> bool:
        """False while too many messages wait for their reader here."""
        ...

    def keep_on(self, session: Session) -> bool:
        """Called every turn: the thread's heartbeat. False ends the session."""
        ...


class _OwnSocketClient(Client):
    """paho with a socket made here: closed whatever happens in the handshake, and quick to notice a dead peer."""

    opener: Callable[[], socket.socket]

    def _create_socket(self) -> socket.socket:
        return self.opener()


class Session:
    """One connection. `serve()` blocks until it is over; `trouble` then says why, None after a wanted end."""

    def __init__(
        self,
        settings: LinkSettings,
        protocol: MQTTProtocolVersion,
        will: Outgoing | None,
        subscriptions: Sequence[str],
        owner: Owner,
    ) -> None:
        self._settings = settings
        self._subscriptions = subscriptions
        self._owner = owner
        self.protocol = protocol
        self.acknowledged = False  # CONNACK has come
        self.up = False  # and the subscriptions stand
        self.version_refused = False
        self.trouble: Trouble | None = None
        self._in_flight: dict[int, Publication] = {}
        self._in_flight_max = IN_FLIGHT_MAX
        self._packet_max_bytes = 0
        self._may_retain = True
        self._last_error = ""
        self._paused_since_s: float | None = None
        self._client = self._make_client(will)

    @property
    def address(self) -> str:
        """``host:port`` for people."""
        return f"{self._settings.host}:{self._settings.port}"

    def serve(self, wake: socket.socket) -> None:
        """Connect, and move messages until the end. `wake` becomes readable when there is something to send."""
        try:
            self._connect()
            self._turn_until_over(wake)
        except (OSError, ValueError) as error:
            self.trouble = explain_error(error, self.address, time.time())
        finally:
            self.up = False
            sock: Any = self._client.socket()
            if sock is not None:
                sock.close()
            self._fail_in_flight()

    def _make_client(self, will: Outgoing | None) -> _OwnSocketClient:
        settings = self._settings
        client = _OwnSocketClient(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=self.protocol,
            clean_session=False if self.protocol == V311 else None,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.opener = self._open_socket
        client.max_inflight_messages_set(0)  # the bound is _in_flight_max: paho's own would start a queue
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_log = self._on_log
        client.suppress_exceptions = True  # a fault of ours in a callback must not end the thread; it is logged
        return client

    def _connect(self) -> None:
        settings = self._settings
        if self.protocol == V5:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = settings.session_expiry_s
            properties.ReceiveMaximum = settings.receive_maximum
            properties.MaximumPacketSize = settings.max_packet_bytes
            self._client.connect(
                settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties
            )
        else:
            self._client.connect(settings.host, settings.port, settings.keepalive_s)

    def _open_socket(self) -> socket.socket:
        settings = self._settings
        context = None
        if settings.tls is not None:
            for file in (settings.tls.ca, settings.tls.cert, settings.tls.key):
                file.open("rb").close()  # its error names the file; OpenSSL's does not
            context = ssl.create_default_context(cafile=str(settings.tls.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(settings.tls.cert, settings.tls.key)
        raw = socket.create_connection((settings.host, settings.port), settings.connect_timeout_s)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Data that the peer does not confirm for this long ends the connection: half-open links show early.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.keepalive_s * 1000)
            return raw if context is None else context.wrap_socket(raw, server_hostname=settings.host)
        except BaseException:
            raw.close()
            raise

    def _turn_until_over(self, wake: socket.socket) -> None:
        deadline_s = time.monotonic() + self._settings.connect_timeout_s
        poll = select.poll()  # select() ends at descriptor 1023
        poll.register(wake, select.POLLIN)
        registered = -1
        while (sock := self._client.socket()) is not None:
            if registered != sock.fileno():
                registered = sock.fileno()
                poll.register(registered, select.POLLIN)
            if not self._owner.keep_on(self):
                self._say_goodbye()
                return
            if not self.up and time.monotonic() > deadline_s:
                self.trouble = Trouble(
                    "cloud.connect_timeout", f"{self.address} does not answer CONNECT or SUBSCRIBE", "check the broker"
                )
                return
            self._send_waiting()
            if self._client.socket() is None:
                return
            may_read = self._may_read()
            writing = select.POLLOUT if self._client.want_write() else 0
            poll.modify(registered, writing | (select.POLLIN if may_read else 0))
            # What TLS has already decrypted does not make the descriptor readable again.
            decrypted = may_read and self._decrypted()
            self._take_turn(poll.poll(0 if decrypted else _TURN_S * 1000), registered, wake)
            if decrypted:
                self._read_all()

    def _may_read(self) -> bool:
        """False while too many messages wait here: the broker is held back by TCP.

        Receive maximum should do that, but 3.1.1 has none, and mosquitto 2.0.11 loses count of it. Not for ever: our
        own acknowledgements stand in the same stream.
        """
        if self._owner.has_room():
            self._paused_since_s = None
            return True
        now_s = time.monotonic()
        if self._paused_since_s is None:
            self._paused_since_s = now_s
        return now_s - self._paused_since_s > _PAUSE_MAX_S

    def _decrypted(self) -> bool:
        sock: Any = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _take_turn(self, ready: list[tuple[int, int]], registered: int, wake: socket.socket) -> None:
        for descriptor, what in ready:
            if descriptor == wake.fileno():
                with contextlib.suppress(BlockingIOError):
                    wake.recv(4096)
            elif descriptor == registered:
                if what & ~select.POLLOUT:
                    self._read_all()
                    self._confirm_at_once()
                if what & select.POLLOUT:
                    self._client.loop_write()
        self._client.loop_misc()

    def _read_all(self) -> None:
        while self._client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            if not (self._decrypted() and self._may_read()):
                return

    def _confirm_at_once(self) -> None:
        # mosquitto leaves Nagle's algorithm on: with our delayed ACK, each second PUBACK of a burst would wait 40 ms.
        # The kernel forgets the option by itself, so it is set again after every read.
        sock: Any = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _send_waiting(self) -> None:
        while (ack := self._owner.next_ack()) is not None:
            session, mid, qos = ack
            if session is self:  # an old session's number could mean another message on this one
                self._client.ack(mid, qos)
        while self.up and len(self._in_flight) < self._in_flight_max:
            publication = self._owner.next_publication()
            if publication is None:
                return
            if publication.session is self and not publication.abandoned:
                self._publish(publication)
            else:
                publication.settle(offline())

    def _publish(self, publication: Publication) -> None:
        message = publication.message
        size_bytes = len(message.payload) + len(message.topic) + _PACKET_OVERHEAD_BYTES
        if self._packet_max_bytes and size_bytes > self._packet_max_bytes:
            publication.settle(
                TooLarge(
                    "cloud.publish_too_large",
                    f"{size_bytes} bytes to {message.topic}: the broker takes {self._packet_max_bytes}",
                    hint="raise the broker's packet limit, or make batches smaller",
                )
            )
            return
        properties = None
        if publication.expiry_s is not None and self.protocol == V5:
            properties = _properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = publication.expiry_s
        retain = message.retain and self._may_retain
        try:
            info = self._client.publish(message.topic, message.payload, message.qos, retain, properties)
        except ValueError as error:
            publication.settle(Unreachable("cloud.publish_invalid", f"cannot publish to {message.topic!r}: {error}"))
            return
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS and not (message.qos == 0 and info.is_published()):
            self._in_flight[info.mid] = publication
        else:
            publication.settle(None if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else offline())

    def _say_goodbye(self) -> None:
        self._client.disconnect()
        deadline_s = time.monotonic() + 1.0
        while self._client.want_write() and self._client.socket() is not None and time.monotonic() < deadline_s:
            self._client.loop_write()

    def _fail_in_flight(self) -> None:
        waiting, self._in_flight = self._in_flight, {}
        for publication in waiting.values():
            publication.settle(offline())

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self.version_refused = self.protocol == V5 and reason.value == _UNSUPPORTED_VERSION
            self.trouble = explain_refusal(str(reason), self.address)
            return
        self.acknowledged = True
        self._in_flight_max = min(IN_FLIGHT_MAX, getattr(properties, "ReceiveMaximum", IN_FLIGHT_MAX))
        self._packet_max_bytes = getattr(properties, "MaximumPacketSize", 0)
        self._may_retain = bool(getattr(properties, "RetainAvailable", 1))
        if not self._subscriptions:
            self._go_up()
        elif self.protocol == V5:
            self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])
        else:
            self._client.subscribe([(topic, 1) for topic in self._subscriptions])

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        refused = [topic for topic, reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure]
        if refused:
            self.trouble = Trouble(
                "cloud.subscribe_refused",
                f"the broker refuses the subscriptions {', '.join(refused)}",
                "check the broker's access rules for this client's name",
            )
        self._go_up()

    def _go_up(self) -> None:
        if not self.up:
            self.up = True
            self._owner.went_up(self)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        expiry_left_s = getattr(message.properties, "MessageExpiryInterval", None)
        self._owner.received(self, message, expiry_left_s)

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        publication = self._in_flight.pop(mid, None)
        if publication is None:
            return
        if reason.is_failure:
            publication.settle(
                Unreachable(
                    "cloud.publish_refused",
                    f"the broker does not take {publication.message.topic}: {reason}",
                    hint="check the broker's access rules and quotas",
                )
            )
        else:
            publication.settle(None)

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self.trouble is not None and not self.up:
            return  # the refusal said more
        text = self._last_error or "the other side closed it"
        if flags.is_disconnect_packet_from_server:
            text = f"the broker ended it: {reason}"
        if reason.is_failure or not self.acknowledged:
            self.trouble = explain_text(text, self.address)

    def _on_log(self, _client: Client, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_error = text


def _properties(packet_type: int) -> Any:
    # paho makes the attributes from a table at run time, so no type checker knows them.
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def offline() -> Unreachable:
    """There is no session with the broker, or it broke before the acknowledgement."""
    return Unreachable("cloud.offline", "no session with the broker", hint="it connects by itself; keep the message")
