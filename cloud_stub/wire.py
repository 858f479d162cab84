"""What gateways send in dialect ``ec/1``, as the cloud reads it: nothing a gateway sends can do more than be counted."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
import zstandard
from msgspec import Meta

PAYLOAD_MAX_BYTES = 1_048_576
UNPACKED_MAX_BYTES = 16 * 1_048_576
_ZSTD = b"\x28\xb5\x2f\xfd"
_TOPIC = re.compile(
    r"ec/1/(?P<gateway>[A-Za-z0-9][A-Za-z0-9._-]{0,63})/(?P<kind>[a-z]+)(/(?P<instance>[a-z0-9-]{1,63}))?"
)

Count = Annotated[int, Meta(ge=0, le=2**31)]
Seq = Annotated[int, Meta(ge=0, le=2**62)]
TimeMs = Annotated[int, Meta(ge=0, le=2**53)]
Word = Annotated[str, Meta(max_length=128)]
Text = Annotated[str, Meta(max_length=8192)]
Name = Annotated[str, Meta(max_length=512)]


class Hostile(ValueError):
    """Not a message of the dialect."""


class Presence(msgspec.Struct, frozen=True):
    """``presence``."""

    state: Literal["online", "offline"]
    session: Word = ""
    agent: Word = ""


class Reply(msgspec.Struct, frozen=True):
    """``reply``, with all its text in `raw`."""

    id: Word
    code: Annotated[int, Meta(ge=100, le=599)]
    job: Word | None = ""
    ts: TimeMs = 0


class JobState(msgspec.Struct, frozen=True):
    """``job``, with all its text in `raw`."""

    job: Word
    state: Word
    kind: Word = ""
    instance: Word = ""
    command: Word = ""
    message: Text = ""
    progress: Annotated[int, Meta(ge=0, le=100)] = 0
    ts: TimeMs = 0


class Item(msgspec.Struct, frozen=True):
    """The part of a sample or a window aggregate that is looked up; the rest stays text."""

    p: Name
    t: TimeMs | None = None
    t1: TimeMs | None = None


class Event(msgspec.Struct, frozen=True):
    """The part of an event or alarm that is looked up."""

    type: Word
    t: TimeMs = 0
    key: Name = ""
    code: Word = ""
    source: Name = ""
    severity: Word = ""
    message: Text = ""
    state: Word = ""
    name: Name = ""


class Loss(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """An event of type ``gap``: the gateway had no room, and says which numbers will never come."""

    session: Word
    priority: Word
    stream: Word
    first: Seq
    last: Seq
    records: Count = 0
    samples: Count = 0


class Batch(msgspec.Struct, frozen=True):
    """``event`` or ``data``: (gateway, session, priority, stream, seq) is its identity."""

    session: Word
    priority: Literal["critical", "normal", "bulk"]
    stream: Literal["live", "hist"]
    seq: Seq
    kind: Literal["event", "data"]
    count: Count = 1
    ts: TimeMs = 0
    items: list[msgspec.Raw] | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class Parsed(msgspec.Struct, frozen=True):
    """A message and where it came from. `text` is its JSON; `size_bytes` what it weighed on the wire."""

    gateway: str
    kind: str
    instance: str
    text: str
    size_bytes: int
    message: Presence | Reply | JobState | Batch | None
    rows: tuple[tuple[Item | Event | Loss, str], ...] = ()


_SHAPES: dict[str, type[Presence | Reply | JobState | Batch]] = {
    "presence": Presence,
    "reply": Reply,
    "job": JobState,
    "event": Batch,
    "data": Batch,
}


def parse(topic: str, payload: bytes) -> Parsed:
    """A message of a gateway. Raises Hostile, whatever the bytes are."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise Hostile(f"no such topic: {topic[:128]!r}")
    gateway, kind, instance = found["gateway"], found["kind"], found["instance"] or ""
    if kind != "reported" and (kind not in _SHAPES or instance):
        raise Hostile(f"no such topic: {topic[:128]!r}")
    text = _unpack(payload)
    try:
        if kind == "reported":
            document = text.decode()
            if text:
                msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            return Parsed(gateway, kind, instance, document, len(payload), None)
        message = msgspec.json.decode(text, type=_SHAPES[kind])
        rows = _rows(message, kind) if isinstance(message, Batch) else ()
        return Parsed(gateway, kind, "", text.decode(), len(payload), message, rows)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Hostile(f"{kind}: {error}"[:512]) from None


def _rows(batch: Batch, kind: str) -> tuple[tuple[Item | Event | Loss, str], ...]:
    if batch.kind != kind:
        raise Hostile(f"a batch of kind {batch.kind} on topic {kind}")
    if kind == "data":
        if batch.items is None:
            raise Hostile("data: no items")
        return tuple((msgspec.json.decode(raw, type=Item), bytes(raw).decode()) for raw in batch.items)
    if not bytes(batch.body):
        raise Hostile("event: no body")
    text = bytes(batch.body).decode()
    event = msgspec.json.decode(batch.body, type=Event)
    if event.type != "gap":
        return ((event, text),)
    return ((event, text), (msgspec.json.decode(batch.body, type=Loss), text))


def _unpack(payload: bytes) -> bytes:
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise Hostile(f"{len(payload)} bytes; {PAYLOAD_MAX_BYTES} are taken")
    if not payload.startswith(_ZSTD):
        return payload
    try:
        # Read to a bound, whatever the frame says about its size: a small frame can claim gigabytes.
        reader = zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(payload)
        text = reader.read(UNPACKED_MAX_BYTES + 1)
    except zstandard.ZstdError as error:
        raise Hostile(f"zstd: {error}") from None
    if len(text) > UNPACKED_MAX_BYTES:
        raise Hostile(f"unpacks to more than {UNPACKED_MAX_BYTES} bytes")
    return text
