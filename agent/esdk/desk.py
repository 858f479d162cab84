"""High-value events on their way to the cloud, and what became of each."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec

from agent.domain.priority import Priority
from agent.errors import NotFound, TooLarge
from agent.ports import Clock, OutRecord, Stored

MAX_EVENT_BYTES = 65_536
MAX_FATES = 1_000
"""Per instance: older ones are forgotten."""


class EventBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`data` is anything up to 64 KiB. `t` is epoch ms. After `ttl_s` the event is sent all the same, marked late."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    data: Any = None
    priority: Literal["critical", "normal", "bulk"] = "critical"
    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] | None = None
    t: int | None = None


class Fate(msgspec.Struct, frozen=True):
    """`stored`: on the gateway's disk, waiting. `sent`: the broker has it. `late`: sent after its time to live."""

    id: str
    state: Literal["stored", "sent", "late"]
    stored: int
    sent: int | None = None
    expires: int | None = None


class _Wire(msgspec.Struct):
    type: str
    id: str = ""
    app: str = ""


class UplinkDesk:
    """Takes events in and remembers their fate. `add` returns once a record is on disk (the outbox).

    Events of before a restart are found again by the id in their payload when they are sent.
    """

    def __init__(self, add: Callable[[OutRecord], Awaitable[None]], clock: Clock) -> None:
        self._add = add
        self._clock = clock
        self._fates: dict[str, OrderedDict[str, Fate]] = {}
        self._decode = msgspec.json.Decoder(_Wire).decode

    async def send(self, instance: str, event: EventBody) -> Fate:
        """Store an event. Raises what the outbox raises (Busy, NoSpace) and TooLarge."""
        now_ms = self._clock.now_ms()
        event_id = secrets.token_hex(8)
        expires = None if event.ttl_s is None else now_ms + int(event.ttl_s * 1000)
        body: dict[str, Any] = {
            "type": "event", "id": event_id, "app": instance, "name": event.name, "priority": event.priority,
            "t": now_ms if event.t is None else event.t, "data": event.data,
        }  # fmt: skip
        if expires is not None:
            body["expires"] = expires
        payload = msgspec.json.encode(body)
        if len(payload) > MAX_EVENT_BYTES:
            raise TooLarge(
                "esdk.event_too_large", f"an event has at most {MAX_EVENT_BYTES} bytes", hint="send less", field="data"
            )
        fate = Fate(event_id, "stored", now_ms, expires=expires)
        self._remember(instance, fate)  # before the commit: it may be sent in the same moment
        try:
            await self._add(OutRecord(Priority(event.priority), "event", payload))
        except BaseException:
            self._fates[instance].pop(event_id, None)
            raise
        return self._fates[instance].get(event_id, fate)

    def fate(self, instance: str, event_id: str) -> Fate:
        """What became of an event. NotFound: not this instance's, or too long ago."""
        found = self._find(instance, event_id)
        if found is None:
            raise NotFound(
                "esdk.no_event", f"no event '{event_id[:64]}' of this APP is remembered",
                hint=f"the last {MAX_FATES} are, until the agent restarts",
            )  # fmt: skip
        return found

    def sent(self, record: Stored) -> None:
        """The broker has acknowledged a record: note it if it was an APP's event."""
        if record.kind != "event" or not record.payload.startswith(b'{"type":"event"'):
            return
        wire = self._decode(record.payload)
        if not wire.id:
            return
        now_ms = self._clock.now_ms()
        known = self._find(wire.app, wire.id) or Fate(wire.id, "stored", record.created_ms)
        late = known.expires is not None and now_ms > known.expires
        self._remember(wire.app, Fate(wire.id, "late" if late else "sent", known.stored, now_ms, known.expires))

    def forget(self, instance: str) -> None:
        """The instance was removed."""
        self._fates.pop(instance, None)

    def _find(self, instance: str, event_id: str) -> Fate | None:
        fates = self._fates.get(instance)
        return fates.get(event_id) if fates is not None else None

    def _remember(self, instance: str, fate: Fate) -> None:
        fates = self._fates.setdefault(instance, OrderedDict())
        fates[fate.id] = fate
        if len(fates) > MAX_FATES:
            fates.popitem(last=False)
