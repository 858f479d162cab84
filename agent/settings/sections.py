"""The sections of gateway.yaml: each key, its default, what is allowed and what it means.

These definitions are all there is: the reader checks by them, the JSON Schema and docs/settings.md are made from
them, and the commented file in config/ is tested against them. Names carry units; the file's keys carry them in
their values (``keep_alive: 30s`` is `keep_alive_s`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from agent.domain.restart import RestartPolicy
from agent.domain.schedule import UpdateTimes, parse_window
from agent.files.quantities import PositiveS, SizeBytes, between
from agent.files.shape import Shape
from agent.files.words import (
    Cidr,
    EnginePrefix,
    FilePath,
    GatewayId,
    Grant,
    HostName,
    InstanceName,
    UpdateWindow,
    Zone,
)

MIB = 1024**2
TIB = 1024**4


@dataclass(frozen=True, slots=True)
class Identity(Shape):
    """Who this gateway is."""

    id: Annotated[
        GatewayId, Field(description="name in the cloud and on every container; default: the host's name")
    ] = ""
    model: Annotated[str, Field(max_length=64, description="what kind of box it is; names a file in boards/")] = ""
    serial: Annotated[str, Field(max_length=64, description="serial number on the box")] = ""
    site: Annotated[str, Field(max_length=128, description="where it stands, for people")] = ""


@dataclass(frozen=True, slots=True)
class Tls(Shape):
    """Certificates of the cloud link; relative paths count from the configuration's folder."""

    ca: Annotated[FilePath, Field(description="file with the certificates that may sign the broker's")] = ""
    cert: Annotated[FilePath, Field(description="file with this gateway's own certificate")] = ""
    key: Annotated[FilePath, Field(description="file with this gateway's private key, mode 0600")] = ""


@dataclass(frozen=True, slots=True)
class Cloud(Shape):
    """The cloud link. Without a host the gateway runs alone."""

    host: Annotated[HostName, Field(description="name or address of the MQTT broker; empty: no cloud")] = ""
    port: Annotated[int | None, Field(ge=1, le=65535, description="its port; default: 8883, or 1883 without TLS")] = (
        None
    )
    tls: Annotated[Tls, Field(description="certificates; needed unless `insecure: true`")] = field(default_factory=Tls)
    insecure: Annotated[bool, Field(description="true sends everything in the clear; for a lab only")] = False
    keep_alive_s: Annotated[
        PositiveS,
        between(5, 1200, "5s to 20m"),
        Field(alias="keep_alive", description="longest silence on the link before it counts as dead, 5s to 20m"),
    ] = 30.0
    dialect: Annotated[Literal["ec/1"], Field(description="northbound protocol")] = "ec/1"

    @property
    def enabled(self) -> bool:
        """True when there is a cloud to talk to."""
        return bool(self.host)

    @property
    def effective_port(self) -> int:
        """The port to connect to."""
        return self.port or (1883 if self.insecure else 8883)


@dataclass(frozen=True, slots=True)
class Engine(Shape):
    """The container engine on this machine."""

    socket: Annotated[FilePath, Field(description="the Docker engine's Unix socket")] = "/var/run/docker.sock"
    prefix: Annotated[
        EnginePrefix, Field(description="first part of the names of containers, networks and volumes")
    ] = "ec"


@dataclass(frozen=True, slots=True)
class Limits(Shape):
    """What a service gets whose manifest says nothing."""

    cpus: Annotated[float, Field(ge=0.01, le=1024, description="processor cores")] = 0.5
    mem_bytes: Annotated[
        SizeBytes, between(6 * MIB, TIB, "6M to 1T"), Field(alias="memory", description="memory, 6M to 1T")
    ] = 64 * MIB
    pids: Annotated[int, Field(ge=1, le=1_000_000, description="processes and threads")] = 64
    disk_bytes: Annotated[
        SizeBytes,
        between(MIB, TIB, "1M to 1T"),
        Field(alias="disk", description="disk of a whole instance: layers, logs and volumes, 1M to 1T"),
    ] = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Maximum(Shape):
    """The most that a manifest may ask for, per service."""

    cpus: Annotated[float | None, Field(ge=0.01, le=1024, description="processor cores; absent: all there are")] = None
    mem_bytes: Annotated[
        Annotated[SizeBytes, between(6 * MIB, TIB, "6M to 1T")] | None,
        Field(alias="memory", description="memory, 6M to 1T; absent: all there is"),
    ] = None
    pids: Annotated[int, Field(ge=1, le=1_000_000, description="processes and threads")] = 1024
    disk_bytes: Annotated[
        Annotated[SizeBytes, between(MIB, TIB, "1M to 1T")] | None,
        Field(alias="disk", description="disk of a whole instance, 1M to 1T; absent: all there is"),
    ] = None


@dataclass(frozen=True, slots=True)
class Capacity(Shape):
    """What all APPs together may be promised. Processors are shared by time and have no sum."""

    mem_reserve_bytes: Annotated[
        SizeBytes,
        between(0, TIB, "0 to 1T"),
        Field(alias="memory_reserve", description="memory that is nobody's promise"),
    ] = 128 * MIB
    mem_overcommit: Annotated[
        float,
        Field(
            alias="memory_overcommit",
            ge=1,
            le=100,
            description="the sum of all limits may be this many times the memory beside the reserve; 1: never more than there is",
        ),
    ] = 2.0
    disk_reserve_bytes: Annotated[
        SizeBytes,
        between(0, TIB, "0 to 1T"),
        Field(
            alias="disk_reserve", description="disk that stays free when images and volume copies are counted; 0: none"
        ),
    ] = 256 * MIB


@dataclass(frozen=True, slots=True)
class Policy(Shape):
    """What APPs may have on this gateway."""

    limits: Annotated[Limits, Field(description="what a service gets whose manifest says nothing")] = field(
        default_factory=Limits
    )
    maximum: Annotated[Maximum, Field(description="the most that a manifest may ask for")] = field(
        default_factory=Maximum
    )
    capacity: Annotated[Capacity, Field(description="what all APPs together may be promised")] = field(
        default_factory=Capacity
    )
    require_digest: Annotated[bool, Field(description="true refuses images named by a tag: a registry may move it")] = (
        False
    )
    tmpfs_bytes: Annotated[
        SizeBytes, between(MIB, 1024 * MIB, "1M to 1G"), Field(alias="tmpfs", description="size of /tmp, 1M to 1G")
    ] = 16 * MIB
    log_bytes: Annotated[
        SizeBytes,
        between(MIB, 1024 * MIB, "1M to 1G"),
        Field(alias="log", description="most log that one container keeps on disk, 1M to 1G"),
    ] = 10 * MIB
    subnets: Annotated[Cidr, Field(description="range that APP networks take their /28 from")] = "10.213.0.0/16"
    keep_versions: Annotated[
        int, Field(ge=1, le=10, description="versions before the one that runs that an APP can go back to, with images")
    ] = 2
    grants: Annotated[
        Mapping[InstanceName, tuple[Grant, ...]],
        Field(description="instance: [grants] that a technician on site gives it, as a refusal names them"),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Updates(Shape):
    """When installations and upgrades that the cloud asks for may run. What is done at the box is never held up."""

    windows: Annotated[
        tuple[UpdateWindow, ...],
        Field(
            max_length=32,
            description='times such as "02:00-04:00", "sat 10:00-12:00" or "mon-fri 22:00-05:30"; none: always',
        ),
    ] = ()
    zone: Annotated[Zone, Field(description="time zone of the windows; default: the machine's")] = ""

    def times(self) -> UpdateTimes:
        """The windows as the control room takes them. Reads the machine's time zone files."""
        return UpdateTimes(tuple(parse_window(text) for text in self.windows), read_zone(self.zone))


def read_zone(name: str) -> tzinfo:
    """The time zone of that name; "" is the machine's own, with its summer time."""
    if name:
        return ZoneInfo(name)
    try:
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError):
        return UTC


@dataclass(frozen=True, slots=True)
class Supervision(Shape):
    """When a crashing service counts as looping, and how it is then backed off."""

    deaths: Annotated[
        int,
        Field(ge=2, le=100, description="this many ends, each within `window` of the one before, make a crash loop"),
    ] = 4
    window_s: Annotated[PositiveS, Field(alias="window", description="see `deaths`")] = 60.0
    first_delay_s: Annotated[PositiveS, Field(alias="first_delay", description="first wait before a restart")] = 1.0
    last_delay_s: Annotated[
        PositiveS, Field(alias="last_delay", description="longest wait; waits double up to here, and never give up")
    ] = 300.0
    healthy_s: Annotated[
        PositiveS, Field(alias="healthy", description="running this long ends the episode and resets its counters")
    ] = 60.0

    @property
    def restart_policy(self) -> RestartPolicy:
        """The same in the domain's words."""
        return RestartPolicy(self.deaths, self.window_s, self.healthy_s, self.first_delay_s, self.last_delay_s)


@dataclass(frozen=True, slots=True)
class Bundles(Shape):
    """Offline packages that are taken by themselves. Whoever can write to these folders can deploy APPs."""

    folders: Annotated[
        tuple[FilePath, ...],
        Field(
            max_length=16, description="folders, such as /media, in which bundles are looked for; none: only by ecgw"
        ),
    ] = ()
    take_over: Annotated[
        bool, Field(description="true lets such a bundle replace what the cloud or a file owns, as --take-over does")
    ] = False


@dataclass(frozen=True, slots=True)
class Uplink(Shape):
    """The store-and-forward buffer and the link's budget."""

    disk_bytes: Annotated[
        SizeBytes,
        between(MIB, TIB, "1M to 1T"),
        Field(alias="disk", description="most that the buffer may take on disk, at least 1M"),
    ] = 512 * MIB
    in_flight: Annotated[int, Field(ge=1, le=20, description="messages sent ahead of the broker's answers")] = 20
    batch_items: Annotated[int, Field(ge=1, le=10_000, description="most samples in one message")] = 512
    batch_after_s: Annotated[
        PositiveS,
        between(0.01, 60, "10ms to 1m"),
        Field(alias="batch_after", description="longest time that a sample waits for its message"),
    ] = 1.0


@dataclass(frozen=True, slots=True)
class Points(Shape):
    """What holds for points whose device file says nothing."""

    window_s: Annotated[
        PositiveS,
        Field(alias="window", description="aggregation window of a point with neither window nor deadband"),
    ] = 60.0
    max_interval_s: Annotated[
        PositiveS | None, Field(alias="max_interval", description="longest silence even when the value stands still")
    ] = None


@dataclass(frozen=True, slots=True)
class Thresholds(Shape):
    """What counts as scarce: each is an alarm while it holds, and APPs may see the machine's."""

    disk_free_percent: Annotated[float, Field(ge=0, le=100, description="free disk space below this")] = 10.0
    mem_used_percent: Annotated[float, Field(ge=0, le=100, description="used memory above this")] = 90.0
    cpu_percent: Annotated[float, Field(ge=0, le=100, description="processor load above this, over a minute")] = 95.0
    temperature_c: Annotated[float, Field(ge=-40, le=150, description="board temperature above this, degrees C")] = 85.0
    app_mem_percent: Annotated[
        float, Field(ge=15, le=100, description="a service's memory above this share of its limit")
    ] = 90.0
    app_pids_percent: Annotated[
        float, Field(ge=15, le=100, description="a service's processes above this share of its limit")
    ] = 90.0
    app_throttled_percent: Annotated[
        float,
        Field(ge=1, le=100, description="a service that waits for its share of the processor more often than this"),
    ] = 50.0
    app_disk_percent: Annotated[
        float, Field(ge=15, le=100, description="an instance's disk above this share of its limit")
    ] = 90.0

    def as_mapping(self) -> Mapping[str, float]:
        """The machine's, by name, as APPs see them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if not name.startswith("app_")}


@dataclass(frozen=True, slots=True)
class Watch(Shape):
    """How the files are watched."""

    every_s: Annotated[
        PositiveS, between(0.1, 60, "100ms to 1m"), Field(alias="every", description="how often to look, 100ms to 1m")
    ] = 1.0
    settle_s: Annotated[
        PositiveS,
        between(0.01, 60, "10ms to 1m"),
        Field(alias="settle", description="a file must stand still this long before it is read, 10ms to 1m"),
    ] = 0.5


@dataclass(frozen=True, slots=True)
class Log(Shape):
    """The agent's own log, on its standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least severity that is written")
    ] = "info"


@dataclass(frozen=True, slots=True)
class Storage(Shape):
    """Where the agent keeps its state."""

    state: Annotated[FilePath, Field(description="folder of the state, mode 0700; `--state` overrides it")] = (
        "/var/lib/ecgw"
    )
