"""What the core needs from outside, as Protocols. Adapters stand in engine/, cloud/, store/ and host/.

Every coroutine here has a deadline of its own inside the adapter and raises only `agent.errors` exceptions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.domain.command import Command
from agent.domain.container import (
    Attachment,
    ContainerSpec,
    ContainerState,
    ImageInfo,
    Live,
    NetworkSpec,
    VolumeSpec,
)
from agent.domain.dockerfile import BuildHow
from agent.domain.platform import EngineInfo
from agent.domain.priority import Priority
from agent.domain.space import Disk
from agent.domain.usage import Folder, Usage


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something happened to a container of `instance`: start, die, oom, destroy, disconnect ..."""

    action: str
    instance: str
    service: str
    container_id: str
    time_ns: int


Progress = Callable[[int, int, str], None]
"""Called with (bytes done, bytes in all or 0, what is going on)."""


class Engine(Protocol):
    """The container engine. All objects carry the label ``ec.gateway``; others' objects are never touched."""

    async def ping(self) -> None: ...
    async def info(self) -> EngineInfo: ...
    async def containers(self, instance: str | None = None) -> list[ContainerState]: ...
    async def inspect(self, container_id: str) -> ContainerState | None: ...
    async def create(self, spec: ContainerSpec) -> str: ...
    async def start(self, container_id: str) -> None: ...
    async def stop(self, container_id: str, grace_s: int) -> None: ...
    async def remove(self, container_id: str) -> None: ...
    async def update(self, container_id: str, live: Live) -> None: ...
    async def rename(self, container_id: str, name: str) -> None: ...
    async def connect(self, container_id: str, networks: Sequence[Attachment]) -> None: ...
    async def disconnect(self, container_id: str, networks: Sequence[str]) -> None: ...
    async def networks(self, instance: str | None = None) -> list[NetworkSpec]: ...
    async def create_network(self, spec: NetworkSpec) -> None: ...
    async def remove_network(self, name: str) -> None: ...
    async def bridge_ports(self) -> Mapping[str, int] | None:
        """How many ports each interface of the host has; None where the agent cannot know the engine's."""
        ...

    async def assure_isolation(self) -> None:
        """What keeps isolated networks to themselves stands, or stands again; Failed ``engine.host_rule`` otherwise."""
        ...

    async def volumes(self, instance: str | None = None) -> list[VolumeSpec]: ...
    async def create_volume(self, spec: VolumeSpec) -> None: ...
    async def remove_volume(self, name: str) -> None: ...
    async def volume_folder(self, name: str) -> str:
        """The folder on this machine that holds the data of a volume of ours; NotFound when there is none."""
        ...

    async def logs(self, container_id: str, tail: int) -> list[str]: ...
    def events(self) -> AsyncIterator[EngineEvent | None]:
        """Container events of this gateway, for ever. None means "(re)connected: list everything"."""
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks at a registry, this once: from a command, in memory only, in no log and no text."""

    username: str
    password: str = field(repr=False)


class Snapshots(Protocol):
    """Copies of volumes' data, by instance and key. `folders` maps volumes to where their data are."""

    async def load(self) -> None:
        """Learn what is held, and clear away what a kill left half-made; once, before anything else."""
        ...

    def instances(self) -> frozenset[str]: ...
    def held(self, instance: str) -> frozenset[tuple[str, str]]:
        """The finished copies, each as (key, volume)."""
        ...

    async def reserve(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Return when copies would fit; NoSpace ``snapshot.no_space`` when not."""
        ...

    async def take(self, instance: str, key: str, folders: Mapping[str, str]) -> None: ...
    async def restore(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Make the data what the copies are; safe to do again. NotFound ``snapshot.gone``."""
        ...

    async def drop(self, instance: str, key: str) -> None: ...


class Images(Protocol):
    """Images, apart from containers because another part of the agent owns them (the job runner)."""

    async def find(self, ref: str) -> ImageInfo | None: ...
    async def pin(self, ref: str, login: Login | None = None) -> str:
        """`ref` as ``repo@sha256:...`` by its registry, or a local image's id.

        Unauthorised: `login`, which is asked with in place of the gateway's own, is not enough."""
        ...

    async def pull(self, pinned: str, progress: Progress, login: Login | None = None) -> ImageInfo: ...
    async def remember(self, name: str, pinned: str) -> None: ...
    async def push(self, ref: str, progress: Progress, login: Login | None = None) -> str: ...
    async def bases(self, folder: str, how: BuildHow) -> tuple[str, ...]: ...
    async def build(self, folder: str, tag: str, progress: Progress, how: BuildHow) -> ImageInfo:
        """An image from a folder with a Dockerfile, whose `bases`, the images it builds on, are here and in `how`."""
        ...

    async def load(self, path: str) -> list[str]: ...
    async def save(self, refs: Sequence[str], path: str) -> int: ...
    async def list(self) -> list[ImageInfo]: ...
    async def remove(self, ref: str) -> None: ...
    async def prune(self, keep: Callable[[], Collection[str]], least_bytes: int = 0) -> int: ...
    async def tidy(self, keep: Callable[[], Collection[str]], *, idle: Callable[[], bool]) -> int:
        """As `prune` (`keep` is asked before each), above the high mark. `idle`: no fetch is open, its left-overs go too."""
        ...


@dataclass(frozen=True, slots=True)
class BundleHead:
    """What an offline bundle says of itself, read without its images.

    `files` are the texts that the manifest refers to, by name; `images` maps each image as written to its pinned name;
    `key` is the hash of its index: the same bundle; `beside` that of its files: the same `folder`, where they will lie.
    """

    path: str
    key: str
    name: str
    version: str
    architecture: str
    manifest: str
    files: Mapping[str, str]
    images: Mapping[str, str]
    size_bytes: int
    folder: str
    beside: str


class Bundles(Protocol):
    """Offline packages of a manifest, its files and its images. A medium that does not answer is TimedOut."""

    async def find(self, folders: Sequence[Path]) -> Mapping[Path, tuple[int, int, int]]:
        """The bundles in `folders` and in those directly below, each with what changes when it does. Never raises."""
        ...

    async def look(self, path: str, *, to_take: bool = False, whole: bool = False) -> BundleHead:
        """Its head; `to_take`: its images and the room too; `whole`: every byte of it. Malformed, Unreachable, NoSpace."""
        ...

    async def fetch(self, url: str, sha256: str, progress: Progress) -> str:
        """Bring the bundle at a URL here, continued where it stopped; its path. What fetching an image raises."""
        ...

    async def take(self, path: str, key: str, folder: str, progress: Progress) -> None:
        """Bring its images and files here, checked; safe to repeat. As `look`, and Conflict: its head names another `key`."""
        ...

    async def keep(self, needed: Callable[[], Collection[str]]) -> None:
        """Remove the files of all bundles but those in the folders that are needed, asked anew for each."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the cloud. Call `ack` once it is journaled: only then does the broker forget it.

    `expiry_left_s` is what the broker left of the MQTT 5 message expiry, which the sender sets to the command's time
    to live: ``ttl_s - expiry_left_s`` is how long it waited. None where the broker cannot tell (3.1.1, no expiry).
    """

    topic: str
    payload: bytes
    retained: bool
    expiry_left_s: int | None
    ack: Callable[[], None]


class CloudLink(Protocol):
    """One session with the broker. Connects by itself and for ever; `publish` never queues while offline."""

    @property
    def connected(self) -> bool: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Return after the broker's acknowledgement; Unreachable when there is no session or it breaks."""
        ...

    def messages(self) -> AsyncIterator[Incoming]: ...
    def changes(self) -> AsyncIterator[bool]:
        """True at each connect, False at each disconnect."""
        ...


class Clock(Protocol):
    """Time. `now_ms` is epoch ms and may jump; `monotonic` is seconds and may not."""

    def now_ms(self) -> int: ...
    def monotonic(self) -> float: ...
    def sane(self) -> bool:
        """False while the wall clock is before the clock floor or known not to be synchronised."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """What the machine has left for APPs, as it is now. `disk_free_bytes` None, `pids` 0: not known.

    `listening` holds port, protocol and address of every socket of the host that waits for others.
    """

    disk_free_bytes: int | None = None
    pids: int = 0
    listening: frozenset[tuple[int, str, str]] = frozenset()


class Host(Protocol):
    """The machine itself."""

    async def facts(self) -> Mapping[str, Any]:
        """model, serial, os, kernel, architecture, cpus, mem_bytes, boot_ms, boot_id, agent_version."""
        ...

    async def usage(self) -> Mapping[str, Any]:
        """cpu_percent, mem_used_bytes, mem_bytes, disk_free_bytes, disk_bytes, disk_device, load1, temperature_c (or None)."""
        ...


class Meter(Protocol):
    """What containers use, without asking the engine."""

    async def read(self, containers: Sequence[ContainerState]) -> Mapping[str, Usage]:
        """The kernel's counters of running containers by id; those that have ended are left out."""
        ...

    async def measure(self, folders: Sequence[str]) -> Mapping[str, Folder]:
        """What each folder takes on disk; slow on purpose."""
        ...

    async def cap(self, name: str, folders: Sequence[str], limit_bytes: int) -> bool:
        """Have the file system itself hold the folders of `name` to a limit; False where it cannot."""
        ...

    async def disk(self, folder: str) -> Disk | None:
        """The file system where `folder` is; None where it cannot be seen."""
        ...


class Ground(Protocol):
    """The machine as the ground that APPs stand on."""

    async def room(self, folder: str, *, listening: bool) -> Room:
        """What is left; `folder` is where the engine keeps images and volumes. Who listens is dear, and only told if asked."""
        ...

    async def tree_bytes(self, folder: str) -> int:
        """What the files below `folder` take on disk; 0 where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class OutRecord:
    """Something for the cloud that must not be lost. `kind`: event | data | job | reply. `payload`: JSON bytes."""

    priority: Priority
    kind: str
    payload: bytes
    count: int = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """An `OutRecord` on disk. (session, priority, stream, seq) is the receiver's key; `stream` is live or hist."""

    row: int
    session: str
    priority: Priority
    stream: str
    seq: int
    kind: str
    payload: bytes
    count: int
    created_ms: int


class OutboxStore(Protocol):
    """The outbox's file. `append` returns after the commit that holds the records (group commit, full sync).

    Events and data go to `stream` (live or hist), jobs and replies to streams of their own. `append` returns the bytes
    taken; NoSpace ``outbox.full`` when there is no room for a critical record, and then none was written.
    """

    async def append(self, records: Sequence[OutRecord], stream: str, now_ms: int) -> int: ...
    async def head(self, limit: int) -> list[Stored]:
        """The next records to send, `critical` first, then by age."""
        ...

    async def forget(self, rows: Sequence[int]) -> None: ...
    async def depth(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class DesiredApp:
    """One row of the desired index. `release` is the hash, or "" when the cloud lets the gateway compute it."""

    release: str
    state: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DesiredIndex:
    """The cloud's wish for the whole gateway. None removes; an absent instance is not the cloud's business."""

    revision: int
    apps: Mapping[str, DesiredApp | None]
    rules: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class DesiredRelease:
    """The manifest that the index's `instance` shall run."""

    instance: str
    manifest: str


@dataclass(frozen=True, slots=True)
class DesiredBundle:
    """As `DesiredRelease`, by reference: where the bundle is, and its digest (64 hexadecimal digits)."""

    instance: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message ready for the link."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Dialect(Protocol):
    """A northbound protocol: the only place that knows topics and envelopes."""

    def subscriptions(self) -> list[str]: ...
    def decode(self, message: Incoming) -> Command | DesiredIndex | DesiredRelease | DesiredBundle:
        """Raises Malformed (with field `id` where one could be read) or TooLarge."""
        ...

    def encode(self, record: Stored) -> Outgoing: ...
    def presence(self, online: bool, session: str) -> Outgoing:
        """`session` is the outbox's: who hears another one knows that streams begin anew."""
        ...

    def reported(self, body: Mapping[str, Any], instance: str | None = None) -> Outgoing:
        """The gateway's index, or one instance's document; retained, latest only."""
        ...
