"""The shapes of a manifest after reading: what an APP asks for, not yet what the gateway makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from agent.domain.container import Healthcheck, PublishedPort, Restart
from agent.domain.document import Document, Path, Problem
from agent.domain.grants import Grants

Scalar: TypeAlias = bool | int | float | str


class NetworkAccess(StrEnum):
    """What an APP may reach. `inbound` means outbound and published ports too."""

    NONE = "none"
    OUTBOUND = "outbound"
    INBOUND = "inbound"


class ParameterType(StrEnum):
    """Types of a parameter; the words of the manifest."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared source of `${name}`. `default` None means that a site or the cloud must give a value."""

    name: str
    type: ParameterType
    default: Scalar | None = None
    min: float | None = None
    max: float | None = None
    choices: tuple[Scalar, ...] = ()
    pattern: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True)
class PortRole:
    """A physical port by the role it plays; the site binds it to one of the gateway's ports."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Probe:
    """The update gate's own question: `kind` is http or tcp, `path` is for http."""

    kind: str
    service: str
    port: int
    path: str = "/"


class Strategy(StrEnum):
    """Whether the old containers stop before the new ones start, or serve until those have proved themselves."""

    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


@dataclass(frozen=True, slots=True)
class Update:
    """How a new release replaces the old one and what it has to prove.

    `rollback_volumes` are the volumes whose data goes back with a roll-back: names of the manifest in a `Body`,
    names on the engine in an `AppSpec`.
    """

    within_s: float = 60.0
    stable_s: float = 10.0
    probe: Probe | None = None
    automatic_rollback: bool = True
    strategy: Strategy = Strategy.STOP_FIRST
    rollback_volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """A named volume (`kind` "volume") or a path relative to the APP's folder (`kind` "bind") in a service."""

    kind: str
    source: str
    target: str
    read_only: bool
    path: Path


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A file system in memory. `size_bytes` 0: the policy's default."""

    target: str
    size_bytes: int = 0
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service asks for; None: the policy's default."""

    nano_cpus: int | None = None
    mem_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Something the manifest asks for that admission refuses. `grant` is the word a technician may allow it by."""

    code: str
    path: Path
    message: str
    hint: str = ""
    grant: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One container of the APP, as written; None and empty mean: not said."""

    name: str
    image: str = ""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    init: bool = True
    read_only: bool = True
    tmpfs: tuple[Tmpfs, ...] = ()
    volumes: tuple[VolumeUse, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    expose: tuple[str, ...] = ()
    depends_on: tuple[tuple[str, str], ...] = ()
    healthcheck: Healthcheck | None = None
    restart: Restart | None = None
    stop_signal: str = ""
    stop_grace_s: float = 10.0
    limits: Limits = field(default_factory=Limits)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    extra_hosts: tuple[str, ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_bytes: int = 0
    log_driver: str = ""
    log_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """The parts of a manifest that may hold `${...}`, read with one set of values. Services by name."""

    services: tuple[Service, ...] = ()
    grants: Grants = field(default_factory=Grants)
    update: Update = field(default_factory=Update)
    asks: tuple[Ask, ...] = ()

    def service(self, name: str) -> Service:
        """The service called `name`; KeyError where there is none."""
        for each in self.services:
            if each.name == name:
                return each
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest without mistakes. `body` was read with the defaults; instantiate reads it with a site's values."""

    document: Document
    name: str
    version: str
    parameters: tuple[Parameter, ...] = ()
    ports: tuple[PortRole, ...] = ()
    network: NetworkAccess = NetworkAccess.NONE
    volumes: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    schema_file: str = ""
    body: Body = field(default_factory=Body)
    warnings: tuple[Problem, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """Image references as written, each once, sorted. They never depend on values."""
        return tuple(sorted({service.image for service in self.body.services}))

    @property
    def files(self) -> tuple[str, ...]:
        """Files the manifest refers to, relative to its folder: they belong to the release."""
        return (self.schema_file,) if self.schema_file else ()

    @property
    def needs_network(self) -> bool:
        """True when its containers get a bridge of their own; one service with network none gets no network."""
        return self.network is not NetworkAccess.NONE or len(self.body.services) > 1
