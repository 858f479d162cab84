"""Samples and the settings of points. A point is a named value: ``boiler/temp``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from agent.domain.priority import Priority

POINT_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,64}(/[A-Za-z0-9_.-]{1,64}){0,7}$")
Number = float | int
Scalar = float | int | bool | str


class Quality(StrEnum):
    """How far a value can be trusted."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"
    STALE = "stale"


class Sample(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One value of one point. `t` is epoch ms at the source; the gateway fills it in where it is None."""

    p: str
    v: Scalar
    t: int | None = None
    q: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """What a write to an output may be."""

    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class SafeValue:
    """What the driver applies after `after_s` seconds of silence."""

    value: Scalar
    after_s: float


@dataclass(frozen=True, slots=True)
class PointConfig:
    """The effective settings of one point. `source` is ``file:line`` for a person; `address` is the driver's own."""

    name: str
    device: str = ""
    owner: str = ""
    type: str = "float"
    unit: str = ""
    range: tuple[float, float] | None = None
    resolution: float | None = None
    deadband: float = 0.0
    max_interval_s: float | None = None
    window_s: float | None = None
    priority: Priority = Priority.NORMAL
    writable: bool = False
    limits: WriteLimits = field(default_factory=WriteLimits)
    safe: SafeValue | None = None
    address: tuple[tuple[str, Scalar], ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A field device behind the gateway. `driver` is the instance that talks to it."""

    name: str
    driver: str
    port: str = ""
    address: tuple[tuple[str, Scalar], ...] = ()
    points: tuple[PointConfig, ...] = ()
    source: str = ""
