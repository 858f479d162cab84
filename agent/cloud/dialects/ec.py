"""The dialect ``ec/1``: topics ``ec/1/{gateway}/...`` and JSON envelopes. See docs/cloud-stub.md for the wire forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

import agent
from agent.cloud.dialects.ec_wire import (
    BundleWire,
    CommandWire,
    IndexWire,
    check_apps,
    check_instance,
    check_rules,
    check_shape,
    malformed,
    parse_document,
)
from agent.cloud.dialects.strict_json import read_id
from agent.domain.batch import compress
from agent.domain.command import Command, Origin
from agent.errors import Malformed, TooLarge
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex, DesiredRelease, Incoming, Outgoing, Stored

PAYLOAD_MAX_BYTES = 262_144
_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Decoded = Command | DesiredIndex | DesiredRelease | DesiredBundle


class EcDialect:
    """ports.Dialect for one gateway."""

    def __init__(self, gateway_id: str, version: str = agent.__version__) -> None:
        if not _GATEWAY.fullmatch(gateway_id):
            raise Malformed(
                "cloud.gateway_id",
                f"{gateway_id!r} cannot stand in a topic",
                hint="use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit",
            )
        self._gateway_id = gateway_id
        self._version = version
        self._root = f"ec/1/{gateway_id}/"

    def subscriptions(self) -> list[str]:
        """Commands, the desired index and the desired releases."""
        return [f"{self._root}command", f"{self._root}desired", f"{self._root}desired/+"]

    def decode(self, message: Incoming) -> Decoded:
        """What the cloud wants. Raises Malformed (fields `id` where readable, `field` where known) or TooLarge.

        An empty payload is how a retained topic is cleared: it becomes `DesiredIndex` revision 0, which never rises,
        or a `DesiredRelease` with an empty manifest.
        """
        kind, _, rest = message.topic.removeprefix(self._root).partition("/")
        decoders: dict[tuple[str, bool], Callable[[Incoming, str], Decoded]] = {
            ("command", False): _decode_command,
            ("desired", False): _decode_index,
            ("desired", True): _decode_release,
        }
        decoder = decoders.get((kind, bool(rest))) if message.topic.startswith(self._root) else None
        if decoder is None:
            raise malformed(f"no messages are expected on {message.topic[:256]!r}", code="cloud.unknown_topic")
        if len(message.payload) > PAYLOAD_MAX_BYTES:
            found = read_id(message.payload) if kind == "command" else None
            raise TooLarge(
                "cloud.too_large",
                f"{len(message.payload)} bytes on {kind}; {PAYLOAD_MAX_BYTES} are allowed",
                hint="files travel as {url, sha256}",
                **({} if found is None else {"id": found}),
            )
        return decoder(message, rest)

    def encode(self, record: Stored) -> Outgoing:
        """A stored record as a message. Events and data carry the receiver's key; replies and jobs go as they are."""
        if record.kind in ("reply", "job"):
            return Outgoing(self._root + record.kind, record.payload)
        envelope: dict[str, Any] = {
            "session": record.session,
            "priority": record.priority,
            "stream": record.stream,
            "seq": record.seq,
            "kind": record.kind,
            "count": record.count,
            "ts": record.created_ms,
        }
        if record.kind == "data":
            envelope["items"] = _items(record.payload)
        else:
            envelope["body"] = msgspec.Raw(record.payload)
        return Outgoing(self._root + record.kind, compress(msgspec.json.encode(envelope)))

    def presence(self, online: bool, session: str) -> Outgoing:
        """Retained; the offline form is also the will."""
        body = {"state": "online" if online else "offline", "agent": self._version, "session": session}
        return Outgoing(f"{self._root}presence", msgspec.json.encode(body), retain=True)

    def reported(self, body: Mapping[str, Any], instance: str | None = None) -> Outgoing:
        """Retained: the gateway's index, or one instance's document. An empty body clears the topic."""
        topic = f"{self._root}reported" if instance is None else f"{self._root}reported/{instance}"
        return Outgoing(topic, msgspec.json.encode(body) if body else b"", retain=True)


def _decode_command(message: Incoming, _rest: str) -> Command:
    found = read_id(message.payload)
    wire = check_shape(parse_document(message.payload, found), CommandWire, found)
    if message.retained:
        raise malformed("a command is never retained", hint="publish it without the retain flag", id=wire.id)
    return Command(wire.id, wire.type, wire.params, Origin.CLOUD, wire.ts, float(wire.ttl_s), who="cloud")


def _decode_index(message: Incoming, _rest: str) -> DesiredIndex:
    if not message.payload:
        return DesiredIndex(0, {}, {})
    wire = check_shape(parse_document(message.payload, None), IndexWire, None)
    if wire.devices:
        raise malformed(
            "devices cannot be set from the cloud",
            code="cloud.devices_unsupported",
            hint="leave devices empty; they stand in devices.d",
            field="devices",
        )
    apps = {
        instance: None if app is None else DesiredApp(app.release.removeprefix("sha256:"), app.state, app.values)
        for instance, app in check_apps(wire.apps).items()
    }
    return DesiredIndex(wire.revision, apps, check_rules(wire.rules))


def _decode_release(message: Incoming, instance: str) -> DesiredRelease | DesiredBundle:
    check_instance(instance, "desired")
    try:
        manifest = message.payload.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"the manifest of {instance} is not UTF-8 at byte {error.start}") from None
    bundle = _read_bundle(message.payload) if manifest.lstrip()[:1] == "{" else None
    if bundle is not None:
        return DesiredBundle(instance, bundle.url, bundle.sha256.removeprefix("sha256:"))
    return DesiredRelease(instance, manifest)


def _read_bundle(payload: bytes) -> BundleWire | None:
    try:
        return check_shape(parse_document(payload, None), BundleWire, None)
    except Malformed:
        return None  # a manifest in YAML's flow style also begins with a brace; its reader judges it


def _items(payload: bytes) -> msgspec.Raw:
    # The pipeline writes {"items":[...]}: its inside is taken over as it is, not parsed again.
    if payload.startswith(b'{"items":[') and payload.endswith(b"]}"):
        return msgspec.Raw(payload[len(b'{"items":') : -1])
    return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(payload)["items"]))
