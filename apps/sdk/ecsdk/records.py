"""The things that come and go over the socket. Times are epoch milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Scalar = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one point. `t` None: the gateway's time; `q`: good, uncertain, bad or stale."""

    p: str
    v: Scalar
    t: int | None = None
    q: str = "good"

    def as_json(self) -> dict[str, Any]:
        """Without what is left to the gateway."""
        body: dict[str, Any] = {"p": self.p, "v": self.v}
        if self.t is not None:
            body["t"] = self.t
        if self.q != "good":
            body["q"] = self.q
        return body


@dataclass(frozen=True, slots=True)
class Value:
    """The latest value of a point. `received`: when the gateway got it."""

    p: str
    v: Scalar
    t: int
    q: str
    received: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Safe:
    """What an output must hold after `after_s` seconds of silence."""

    value: Scalar
    after_s: float


@dataclass(frozen=True, slots=True)
class Command:
    """A write of a point this APP owns. `address` is the driver's own part of the device file."""

    id: str
    point: str
    value: Scalar
    t: int
    device: str = ""
    address: Mapping[str, Any] = field(default_factory=dict)
    safe: Safe | None = None
    origin: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class DevicePoint:
    """A point of a device; `low` and `high` are the write limits."""

    name: str
    address: Mapping[str, Any]
    type: str
    unit: str
    range: tuple[float, float] | None
    resolution: float | None
    writable: bool
    low: float | None
    high: float | None
    safe: Safe | None


@dataclass(frozen=True, slots=True)
class Device:
    """A field device this APP drives. `raw` is the JSON as it came."""

    name: str
    port: str
    address: Mapping[str, Any]
    points: tuple[DevicePoint, ...]
    online: bool | None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """An output was written and its owner has said so."""

    id: str
    point: str
    message: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm of this APP that stands."""

    code: str
    severity: str
    message: str
    raised: int
    acknowledged: int
    count: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an event: stored, sent or late (sent after its time to live)."""

    id: str
    state: str
    stored: int
    sent: int | None = None
    expires: int | None = None


def read_safe(body: Mapping[str, Any] | None) -> Safe | None:
    """From JSON."""
    return None if not body else Safe(body["value"], float(body["after_s"]))


def read_command(body: Mapping[str, Any]) -> Command:
    """From JSON."""
    return Command(
        body["id"], body["point"], body["value"], body["t"], body.get("device", ""), body.get("address", {}),
        read_safe(body.get("safe")), body.get("origin", ""), body.get("who", ""),
    )  # fmt: skip


def read_sample(body: Mapping[str, Any]) -> Sample:
    """From JSON."""
    return Sample(body["p"], body["v"], body["t"], body.get("q", "good"))


def read_alarm(body: Mapping[str, Any]) -> Alarm:
    """From JSON; what a newer gateway adds is let be."""
    return Alarm(body["code"], body["severity"], body["message"], body["raised"], body["acknowledged"], body["count"])


def read_fate(body: Mapping[str, Any]) -> Fate:
    """From JSON."""
    return Fate(body["id"], body["state"], body["stored"], body.get("sent"), body.get("expires"))


def read_device(body: Mapping[str, Any]) -> Device:
    """From JSON."""
    points = tuple(_read_point(each) for each in body["points"])
    return Device(body["name"], body["port"], body["address"], points, body["online"], body)


def _read_point(body: Mapping[str, Any]) -> DevicePoint:
    span = body["range"]
    return DevicePoint(
        body["name"], body["address"], body["type"], body["unit"], None if span is None else (span[0], span[1]),
        body["resolution"], body["writable"], body["limits"]["min"], body["limits"]["max"], read_safe(body["safe"]),
    )  # fmt: skip
