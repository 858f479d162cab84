"""What the lab cloud's REST interface takes and gives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

INSTANCE = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Scalar = bool | int | float | str


class Taken(BaseModel):
    """Base of what is taken: unknown keys are an error, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CommandIn(Taken):
    """A command to one gateway. `ttl_s` is also how long the broker keeps it."""

    type: str = Field(pattern=r"^[a-z0-9_.-]{1,64}$", examples=["app.list"])
    params: dict[str, Any] = Field(default_factory=dict)
    ttl_s: float = Field(default=86_400.0, gt=0, le=30 * 86_400)


class DesiredAppIn(Taken):
    """What one instance shall be. `manifest` is the text of its release."""

    manifest: str | None = Field(default=None, min_length=1, max_length=262_144)
    release: str = Field(default="", pattern=r"^((sha256:)?[0-9a-f]{64})?$")
    state: Literal["running", "stopped"] = "running"
    values: dict[str, Scalar] = Field(default_factory=dict)


class DesiredIn(Taken):
    """The whole desired state of a gateway; null removes an instance or a rules file."""

    apps: dict[Annotated[str, Field(pattern=INSTANCE)], DesiredAppIn | None] = Field(default_factory=dict)
    rules: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], str | None] = Field(default_factory=dict)


class Given(BaseModel):
    """Base of what is given."""


class Sent(Given):
    """A command is with the broker."""

    id: str
    gateway: str


class DesiredOut(Given):
    """The desired state has this revision; `published` is false until the broker is reachable."""

    revision: int
    published: bool


class CommandOut(Given):
    """A command, its reply once there is one, and the states of the job it started, oldest first."""

    id: str
    gateway: str
    type: str
    ts: int
    ttl_s: float
    state: Literal["sent", "answered", "expired"]
    reply: dict[str, Any] | None
    job: list[dict[str, Any]]


class GatewayOut(Given):
    """A gateway, by its last presence. Times are epoch ms; `hostile` counts messages that were none."""

    id: str
    state: str
    agent: str
    session: str
    since_ms: int
    seen_ms: int
    hostile: int
    facts: dict[str, Any] | None = None


class AlarmOut(Given):
    """The last word about an alarm."""

    key: str
    state: str
    severity: str
    code: str
    source: str
    message: str
    t_ms: int


class RowOut(Given):
    """An event, a job state, a reply or a presence, as the gateway sent it."""

    id: int
    kind: str
    at_ms: int
    body: dict[str, Any]


class ItemOut(Given):
    """A sample or a window aggregate."""

    id: int
    point: str
    t_ms: int | None
    body: dict[str, Any]


class StreamOut(Given):
    """One stream of batches: the closed intervals of numbers received, the gaps below the highest, and what the
    gateway said it had no room for."""

    session: str
    priority: str
    stream: str
    batches: int
    duplicates: int
    events: int
    samples: int
    bytes: int
    intervals: list[tuple[int, int]]
    gaps: list[tuple[int, int]]
    lost: list[tuple[int, int]]


class CountsOut(Given):
    """Sums over all streams and sessions of a gateway."""

    batches: int
    duplicates: int
    events: int
    samples: int
    bytes: int
    missing: int
    lost: int
    hostile: int


class HealthOut(Given):
    """The lab cloud itself."""

    broker: dict[str, Any]
    gateways: int
