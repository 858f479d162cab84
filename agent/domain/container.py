"""What a container, network and volume must be, and what they are: the two halves the planner compares."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

LABEL_GATEWAY = "ec.gateway"
LABEL_APP = "ec.app"
LABEL_SERVICE = "ec.service"
LABEL_RELEASE = "ec.release"
LABEL_SPEC = "ec.spec"


class Restart(StrEnum):
    """The engine's restart policies the gateway uses."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"


@dataclass(frozen=True, slots=True)
class Live:
    """What the engine can change without a restart. nano_cpus 0, mem_bytes 0, pids 0: no limit.

    `swap_bytes` may be used on top of `mem_bytes`; the gateway itself gives none.
    """

    nano_cpus: int = 0
    mem_bytes: int = 0
    pids: int = 0
    restart: Restart = Restart.UNLESS_STOPPED
    swap_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """A named volume (`kind` "volume", `source` its engine name) or a bind (`source` an absolute host path)."""

    kind: str
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network (`network` is its name on the engine) and the names by which others on it find the container.

    `links` are names by which only the container itself finds others, as (name, the other's container name). `address` is
    the one it has there, or to be given it again where that is still free.
    """

    network: str
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    address: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A device node: `source` on the host, `target` in the container. To be read and written, never made."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file that the gateway writes for a container before it starts; `path` is where, on the host.

    The path is made from all that is in it, so a file never changes under a container.
    """

    path: str
    content: str = field(repr=False)
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A container port offered on the host."""

    container_port: int
    host_port: int
    host_ip: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """The engine's own health probe; `test` as in Compose after normalising: ("CMD", ...) or ("CMD-SHELL", s).

    Empty and 0: the image's own, or else the engine's (30 s, 30 s, 3 times).
    """

    test: tuple[str, ...] = ()
    interval_s: float = 0.0
    timeout_s: float = 0.0
    retries: int = 0
    start_period_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that the create body is built from: an allow-list, so nothing else can reach the engine.

    `image` is what runs: ``repo@sha256:...`` or an image id. Without `networks` it has no network at all.
    Mappings are tuples of pairs, sorted, so that specs compare and hash. `expose` is ``8080/tcp`` ...; `log_driver` is
    json-file or local. `quiet` is how it is on its networks while another version serves under its names.
    """

    name: str
    instance: str
    service: str
    release: str
    image: str
    gateway: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[tuple[str, str], ...] = ()
    read_only: bool = True
    init: bool = True
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ("ALL",)
    no_new_privileges: bool = True
    networks: tuple[Attachment, ...] = ()
    devices: tuple[Device, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    expose: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    stop_signal: str = ""
    stop_grace_s: int = 10
    log_driver: str = "json-file"
    log_options: tuple[tuple[str, str], ...] = (("max-file", "3"), ("max-size", "1m"))
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_bytes: int = 0
    live: Live = field(default_factory=Live)
    quiet: tuple[Attachment, ...] = ()

    @property
    def joins(self) -> tuple[Attachment, ...]:
        """How it is on its networks now."""
        return self.quiet or self.networks

    @property
    def spec_hash(self) -> str:
        """Hash of everything that cannot be changed live: 16 hex digits, the value of label ``ec.spec``.

        The release's and the container's name are left out, so an unchanged service survives an upgrade untouched.
        """
        return _hash(self)

    @property
    def network(self) -> str:
        """The network it is made on, "none" where it has none."""
        return self.networks[0].network if self.networks else "none"

    def all_labels(self) -> dict[str, str]:
        """The manifest's labels with the gateway's own on top."""
        return {
            **dict(self.labels),
            LABEL_GATEWAY: self.gateway,
            LABEL_APP: self.instance,
            LABEL_SERVICE: self.service,
            LABEL_RELEASE: self.release,
            LABEL_SPEC: self.spec_hash,
        }


@lru_cache(maxsize=64)
def _hash(spec: ContainerSpec) -> str:
    """Remembered for a few: one deployment asks for it two dozen times."""
    body = asdict(spec)
    for loose in ("name", "release", "live", "gateway", "quiet"):
        del body[loose]
    for joined in body["networks"]:
        del joined["links"], joined["address"]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A bridge of the instance's own. `subnet` is a /28 in CIDR form; "" lets the engine adapter choose a free one.

    `isolated`: its containers reach each other and nothing else, not even the host's ports (``network: none`` with
    several services). Only an APP with ``network: outbound`` or ``inbound`` gets False.
    `bridge` is the interface that the engine made for it; it tells that, and is not told.
    """

    name: str
    instance: str
    gateway: str
    subnet: str = ""
    isolated: bool = True
    bridge: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A named volume of the instance's own."""

    name: str
    instance: str
    gateway: str


class RunState(StrEnum):
    """The engine's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Health(StrEnum):
    """The engine's words for a container's health; `none` where it has no probe."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class DiskPlaces:
    """Folders of the host that a container fills: its writable layer, the engine's own for it (logs), its volumes."""

    layer: str = ""
    log: str = ""
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container as the engine reports it. `started_at` is the engine's own text, compared for equality only.

    `attachments` are the networks it is on, by name; None: not told. `bent`: limits as ``CpuShares=512`` that the gateway
    never gives and that no update of the engine's takes back: somebody's by hand, or what the engine gives by itself.
    `published` are the host's ports that it holds while it runs, each with its protocol.
    """

    id: str
    name: str
    instance: str
    service: str
    release: str
    spec: str
    image_id: str
    state: RunState
    health: Health = Health.NONE
    exit_code: int = 0
    oom_killed: bool = False
    started_at: str = ""
    restart_count: int = 0
    pid: int = 0
    address: str = ""
    live: Live = field(default_factory=Live)
    places: DiskPlaces = field(default_factory=DiskPlaces)
    attachments: tuple[Attachment, ...] | None = None
    bent: tuple[str, ...] = ()
    published: tuple[tuple[int, str], ...] = ()

    @property
    def networks(self) -> tuple[str, ...] | None:
        """The names of the networks it is on, sorted; None: not told."""
        return None if self.attachments is None else tuple(each.network for each in self.attachments)

    @property
    def serving(self) -> bool:
        """True while the engine runs it or is about to run it again."""
        return self.state in (RunState.RUNNING, RunState.RESTARTING, RunState.PAUSED)

    @property
    def ended_well(self) -> bool:
        """True when it came to its end without an error and, by its restart policy, shall stay there."""
        ended = self.state is RunState.EXITED and self.exit_code == 0 and not self.oom_killed
        return ended and self.live.restart in (Restart.NO, Restart.ON_FAILURE)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image on the gateway. `id` is its config digest, `digests` the registry's ``repo@sha256:...``.

    `names` are those that people pulled it by: the engine need not know them, but one may be among the `tags` as well.
    `working_dir`, `volumes` and `has_healthcheck` are what its containers get where nobody says otherwise.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    architecture: str
    created: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    has_healthcheck: bool = False
    names: tuple[str, ...] = ()
    variant: str = ""


def as_json(value: Any) -> dict[str, Any]:
    """A spec or state as plain JSON, for the journal, replies and the local page."""
    return asdict(value)
