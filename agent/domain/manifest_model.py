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
    device: DeviceNode | None = None


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """The node of a bound port in a service that drives it itself: `at` is its path in the container."""

    service: str
    at: str


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge of the APP's own. `internal`: nothing leads out of it, whatever `x-ec.network` says."""

    name: str
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """That a service is on a network, also under the names `aliases`."""

    network: str
    aliases: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class FileSource:
    """A config or secret: what is in it is the release's file `file`, or `content`."""

    name: str
    file: str = ""
    content: str | None = field(default=None, repr=False)
    path: Path = ()


@dataclass(frozen=True, slots=True)
class FileUse:
    """A config or secret (`kind` is "configs" or "secrets") at `target` in a service's container."""

    kind: str
    source: str
    target: str
    mode: int = 0o444
    uid: int = 0
    gid: int = 0
    path: Path = ()


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A file of the release with variables for a service."""

    name: str
    required: bool = True
    path: Path = ()


@dataclass(frozen=True, slots=True)
class Build:
    """How an image is made: `context` is a folder relative to the APP's, `dockerfile` a file below it."""

    context: str
    dockerfile: str = "Dockerfile"
    args: tuple[tuple[str, str], ...] = ()
    target: str = ""
    path: Path = ()


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
    names on the engine in an `AppSpec`. `patient`: nobody stated `within_s`, so it does not count while the engine
    says that a healthcheck is starting.
    """

    within_s: float = 60.0
    stable_s: float = 10.0
    probe: Probe | None = None
    automatic_rollback: bool = True
    strategy: Strategy = Strategy.STOP_FIRST
    rollback_volumes: tuple[str, ...] = ()
    patient: bool = True


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
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    env_files: tuple[EnvFile, ...] = ()
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    init: bool = True
    read_only: bool = True
    tmpfs: tuple[Tmpfs, ...] = ()
    volumes: tuple[VolumeUse, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    expose: tuple[str, ...] = ()
    networks: tuple[Joined, ...] = ()
    configs: tuple[FileUse, ...] = ()
    secrets: tuple[FileUse, ...] = ()
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

    @property
    def files(self) -> tuple[FileUse, ...]:
        """Configs and secrets."""
        return (*self.configs, *self.secrets)


@dataclass(frozen=True, slots=True)
class Body:
    """The parts of a manifest that may hold `${...}`, read with one set of values. Services by name."""

    services: tuple[Service, ...] = ()
    networks: tuple[Network, ...] = ()
    configs: tuple[FileSource, ...] = ()
    secrets: tuple[FileSource, ...] = ()
    grants: Grants = field(default_factory=Grants)
    update: Update = field(default_factory=Update)
    asks: tuple[Ask, ...] = ()

    def declares(self, use: FileUse) -> bool:
        """Whether the config or secret that is used could be read."""
        return use.source in {each.name for each in (self.configs if use.kind == "configs" else self.secrets)}

    def source(self, use: FileUse) -> FileSource:
        """The config or secret that is used; KeyError where it is not declared."""
        known = self.configs if use.kind == "configs" else self.secrets
        return {each.name: each for each in known}[use.source]

    def service(self, name: str) -> Service:
        """The service called `name`; KeyError where there is none."""
        for each in self.services:
            if each.name == name:
                return each
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest without mistakes. `body` was read with the defaults; instantiate reads it with a site's values.

    `disk_bytes` is the most that an instance may take on disk; None: the policy's default.
    """

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
    disk_bytes: int | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """Image references as written, each once, sorted. They never depend on values."""
        return tuple(sorted({service.image for service in self.body.services}))

    @property
    def builds(self) -> Mapping[str, Build]:
        """Image reference -> how it is made here; these of `images` are in no registry."""
        return {each.image: each.build for each in self.body.services if each.build is not None}

    @property
    def binds(self) -> bool:
        """True when a service mounts something of the APP's own folder."""
        return any(use.kind == "bind" for service in self.body.services for use in service.volumes)

    @property
    def files(self) -> tuple[str, ...]:
        """Files the manifest refers to, relative to its folder: they belong to the release."""
        named = {each.file for each in (*self.body.configs, *self.body.secrets)}
        named |= {each.name for service in self.body.services for each in service.env_files}
        return tuple(sorted({*named, self.schema_file} - {""}))

    @property
    def optional_files(self) -> frozenset[str]:
        """Those of `files` that may be missing."""
        files = [each for service in self.body.services for each in service.env_files]
        needed = {each.file for each in (*self.body.configs, *self.body.secrets)} | {self.schema_file}
        needed |= {each.name for each in files if each.required}
        return frozenset(each.name for each in files) - needed

    @property
    def needs_network(self) -> bool:
        """True when its containers get a bridge of their own; one service with network none gets no network."""
        return self.network is not NetworkAccess.NONE or len(self.body.services) > 1
