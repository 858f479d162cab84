"""The parameters of every command type, as the bytes of people and clouds are checked. One table: `PARAMS`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from agent.domain.alarm import MOST_KEY

INSTANCE_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
RULES_NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
Scalar = bool | int | float | str
LAST_MS = 4_102_444_800_000
"""The year 2100."""
LONGEST_S = 30 * 86_400.0


class Params(BaseModel):
    """Base: unknown keys are an error, nothing is coerced. Its checker is built with the first command of its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Nothing(Params):
    """A command without parameters."""


class Instance(Params):
    """A command about one instance."""

    instance: str = Field(pattern=INSTANCE_PATTERN)


class MaybeInstance(Params):
    """A read about one instance, or about all."""

    instance: str | None = Field(default=None, pattern=INSTANCE_PATTERN)


class Login(Params):
    """Who asks at a registry, this once. The password shows in no text and is in no journal."""

    username: str = Field(min_length=1, max_length=256)
    password: SecretStr = Field(min_length=1, max_length=16_384)


class Timed(Params):
    """Work with times of its own: not before `at` (epoch ms), and failed when not done `deadline_s` after the command."""

    at: int | None = Field(default=None, ge=1, le=LAST_MS)
    deadline_s: float | None = Field(default=None, gt=0, le=LONGEST_S)


class Credentials(Params):
    """Logins by registry (host or host:port), for this one command: held in memory, never written."""

    credentials: dict[str, Login] = Field(default_factory=dict, max_length=16)


class Order(Instance, Timed):
    """`app.start`, `app.stop` and `app.restart`."""


class Layer(Params):
    """The sender's layer of values for an instance. `exact`: it is all that this side sets; else it is laid over what it
    set before."""

    values: dict[str, Scalar] = Field(default_factory=dict)
    config: dict[str, Any] | None = None
    ports: dict[str, str] = Field(default_factory=dict)
    exact: bool = False
    take_over: bool = False
    force: bool = False


class Deploy(Instance, Layer):
    """What `app.install`, `app.upgrade` and `app.plan` have in common: the manifest's text and the sender's layer of values.

    `files` are those the manifest refers to, by name. `folder` holds the APP's own files on the gateway's disk: never
    from the cloud.
    """

    manifest: str = Field(min_length=1, max_length=262_144)
    files: dict[str, str] = Field(default_factory=dict)
    folder: str = ""


class Deployment(Deploy, Timed, Credentials):
    """`app.install` and `app.upgrade`."""


class FromBundle(Deployment):
    """A deployment from an offline bundle at path `bundle`, whose images are pinned by it. Never on the wire.

    `key` is the head's; `beside` is the digest of what `folder` will hold.
    """

    bundle: str
    key: str
    beside: str
    pins: dict[str, str]


class OnDisk(Params):
    """A command about a file of the gateway's disk; local origin only."""

    path: str = Field(min_length=1, max_length=4096)


class Import(OnDisk, Timed, Layer):
    """`bundle.import`: a bundle under its own name or another."""

    instance: str | None = Field(default=None, pattern=INSTANCE_PATTERN)


class Fetch(Instance, Timed, Layer):
    """`bundle.fetch`: the bundle at a URL, known by its hash; then as `bundle.import`."""

    url: str = Field(min_length=8, max_length=2048, pattern=r"^https?://[^\s@]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class RollBack(Order):
    """`app.rollback`: to the version before, or to the kept one that `to` names by version or start of its hash."""

    to: str = Field(default="", max_length=64)
    force: bool = False


class Remove(Order):
    """`app.remove`: volumes stay unless asked."""

    volumes: bool = False
    take_over: bool = False


class Configure(Order):
    """`app.configure`: only what is given changes. `exact`: of the values, those not given go."""

    values: dict[str, Scalar] | None = None
    exact: bool = False
    config: dict[str, Any] | None = None
    ports: dict[str, str] | None = None


class Logs(Instance):
    """`app.logs`: the last `tail` lines of a service, or of all."""

    service: str | None = None
    tail: int = Field(default=100, ge=1, le=5000)


class Image(Params):
    """A command about one image reference."""

    image: str = Field(min_length=1, max_length=512)


class Pull(Image, Timed, Credentials):
    """`image.pull`: waits for no window."""


class Push(Image, Credentials):
    """`image.push`."""


class Build(Credentials):
    """`image.build`: a folder on the gateway with a Dockerfile; local origin only. The logins are for its bases."""

    folder: str
    tag: str = Field(min_length=1, max_length=512)
    dockerfile: str = Field(default="Dockerfile", min_length=1, max_length=512)
    args: dict[str, str] = Field(default_factory=dict)
    target: str = Field(default="", max_length=64)


class Load(Params):
    """`image.load`: an image archive on the gateway; local origin only."""

    path: str


class Save(Params):
    """`image.save`: write images to an archive on the gateway; local origin only."""

    images: list[str] = Field(min_length=1)
    path: str


class Name(Params):
    """A command about one named thing."""

    name: str = Field(min_length=1, max_length=256)


class JobId(Params):
    """A command about one job."""

    job: str = Field(min_length=1, max_length=64)


class Filter(Params):
    """A read of points by MQTT filter."""

    filter: str = Field(default="#", min_length=1, max_length=512)


class Point(Params):
    """A read of one point."""

    point: str = Field(min_length=1, max_length=512)


class PointWrite(Point):
    """`point.write`: `mode` as in contract/cloud.md."""

    value: Scalar
    mode: Literal["direct", "select", "operate", "cancel"] = "direct"


class RuleText(Params):
    """`rule.apply`: the text of one rules file under a name."""

    name: str = Field(pattern=RULES_NAME_PATTERN)
    text: str = Field(min_length=1, max_length=262_144)


class Key(Params):
    """`alarm.ack`: an alarm's key."""

    key: str = Field(min_length=1, max_length=MOST_KEY)


class Tail(Params):
    """`gateway.logs`."""

    tail: int = Field(default=100, ge=1, le=5000)


PARAMS: dict[str, type[Params]] = {
    "app.install": Deployment,
    "app.upgrade": Deployment,
    "app.plan": Deploy,
    "app.start": Order,
    "app.stop": Order,
    "app.restart": Order,
    "app.rollback": RollBack,
    "app.remove": Remove,
    "app.configure": Configure,
    "app.list": Nothing,
    "app.status": MaybeInstance,
    "app.logs": Logs,
    "bundle.show": OnDisk,
    "bundle.import": Import,
    "bundle.fetch": Fetch,
    "image.pull": Pull,
    "image.push": Push,
    "image.build": Build,
    "image.load": Load,
    "image.save": Save,
    "image.list": Nothing,
    "image.remove": Image,
    "image.prune": Nothing,
    "volume.list": MaybeInstance,
    "volume.show": Name,
    "volume.remove": Name,
    "network.list": MaybeInstance,
    "network.show": Name,
    "job.list": MaybeInstance,
    "job.status": JobId,
    "job.cancel": JobId,
    "job.now": JobId,
    "device.list": Nothing,
    "device.show": Name,
    "point.list": Filter,
    "point.read": Point,
    "point.write": PointWrite,
    "rule.list": Nothing,
    "rule.apply": RuleText,
    "rule.remove": Name,
    "alarm.list": Nothing,
    "alarm.ack": Key,
    "uplink.status": Nothing,
    "gateway.status": Nothing,
    "gateway.logs": Tail,
}

LOCAL_ONLY = frozenset({"bundle.show", "bundle.import", "image.build", "image.load", "image.save"})
"""Types that name a path of the gateway's disk: never accepted from the cloud."""
