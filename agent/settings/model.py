"""All settings together: what gateway.yaml may hold, and what `load` gives to the composition root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from agent.domain.policy import Policy as AdmissionPolicy
from agent.files.shape import Shape
from agent.settings.board import Board
from agent.settings.registries import Images, Registries
from agent.settings.sections import (
    Bundles,
    Cloud,
    Engine,
    Identity,
    Log,
    Points,
    Policy,
    Storage,
    Supervision,
    Thresholds,
    Updates,
    Uplink,
    Watch,
)


@dataclass(frozen=True, slots=True)
class GatewayFile(Shape):
    """gateway.yaml and the files of conf.d/: every section may be left out."""

    identity: Annotated[Identity, Field(description="who this gateway is")] = field(default_factory=Identity)
    cloud: Annotated[Cloud, Field(description="the cloud link")] = field(default_factory=Cloud)
    engine: Annotated[Engine, Field(description="the container engine")] = field(default_factory=Engine)
    registries: Annotated[Registries, Field(description="where images may come from")] = field(
        default_factory=Registries
    )
    images: Annotated[Images, Field(description="when images are cleaned up")] = field(default_factory=Images)
    policy: Annotated[Policy, Field(description="what APPs may have")] = field(default_factory=Policy)
    supervision: Annotated[Supervision, Field(description="crash loops and back-off")] = field(
        default_factory=Supervision
    )
    updates: Annotated[Updates, Field(description="when the cloud may deploy")] = field(default_factory=Updates)
    bundles: Annotated[Bundles, Field(description="offline packages that are taken by themselves")] = field(
        default_factory=Bundles
    )
    uplink: Annotated[Uplink, Field(description="store-and-forward buffer and link budget")] = field(
        default_factory=Uplink
    )
    points: Annotated[Points, Field(description="defaults of points")] = field(default_factory=Points)
    thresholds: Annotated[Thresholds, Field(description="what counts as scarce on this machine")] = field(
        default_factory=Thresholds
    )
    watch: Annotated[Watch, Field(description="how files are watched")] = field(default_factory=Watch)
    log: Annotated[Log, Field(description="the agent's own log")] = field(default_factory=Log)
    paths: Annotated[Storage, Field(description="where state lives")] = field(default_factory=Storage)


@dataclass(frozen=True, slots=True)
class Paths:
    """Every place on disk. `root` holds the configuration, `state` what the agent writes."""

    root: Path
    state: Path

    @property
    def gateway(self) -> Path:
        """The main file."""
        return self.root / "gateway.yaml"

    @property
    def apps(self) -> Path:
        """Manifests and site values."""
        return self.root / "apps.d"

    @property
    def devices(self) -> Path:
        """Field devices and their points."""
        return self.root / "devices.d"

    @property
    def points(self) -> Path:
        """Overrides for points that APPs publish."""
        return self.root / "points.d"

    @property
    def rules(self) -> Path:
        """Local rules."""
        return self.root / "rules.d"

    @property
    def admin_socket(self) -> Path:
        """Where `ecgw` and the local page reach the agent."""
        return self.state / "admin.sock"

    @property
    def sockets(self) -> Path:
        """One directory per instance below this: a short name, because a Unix path ends at 107 bytes."""
        return self.state / "s"

    @property
    def state_db(self) -> Path:
        """Desired state, journal, alarms."""
        return self.state / "state.db"

    @property
    def snapshots(self) -> Path:
        """Copies of volumes that an upgrade on trial may go back to."""
        return self.state / "snapshots"

    @property
    def outbox_db(self) -> Path:
        """The store-and-forward buffer."""
        return self.state / "outbox.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent runs by. Paths are absolute, `identity.id` is never empty."""

    identity: Identity
    cloud: Cloud
    engine: Engine
    registries: Registries
    images: Images
    policy: Policy
    supervision: Supervision
    updates: Updates
    bundles: Bundles
    uplink: Uplink
    points: Points
    thresholds: Thresholds
    watch: Watch
    log: Log
    board: Board
    paths: Paths

    def admission_policy(self) -> AdmissionPolicy:
        """The policy in the words that admission and instantiation take."""
        limits, most = self.policy.limits, self.policy.maximum
        return AdmissionPolicy(
            default_nano_cpus=round(limits.cpus * 1e9),
            default_mem_bytes=limits.mem_bytes,
            default_pids=limits.pids,
            max_nano_cpus=round((most.cpus or 0) * 1e9),
            max_mem_bytes=most.mem_bytes or 0,
            max_pids=most.pids,
            default_disk_bytes=limits.disk_bytes,
            max_disk_bytes=most.disk_bytes or 0,
            tmpfs_bytes=self.policy.tmpfs_bytes,
            max_log_bytes=self.policy.log_bytes,
            own_folders=(str(self.paths.root), str(self.paths.state)),
            engine_sockets=tuple(dict.fromkeys((self.engine.socket, os.path.realpath(self.engine.socket)))),
            require_digest=self.policy.require_digest,
            mem_reserve_bytes=self.policy.capacity.mem_reserve_bytes,
            mem_overcommit=self.policy.capacity.mem_overcommit,
            disk_reserve_bytes=self.policy.capacity.disk_reserve_bytes,
            registries=self.registries.allow,
            subnets=self.policy.subnets,
            keep_versions=self.policy.keep_versions,
            grants={instance: frozenset(given) for instance, given in self.policy.grants.items()},
        )

    def as_dict(self) -> Mapping[str, Any]:
        """Plain JSON for people: paths as text."""
        body = asdict(self)
        body["paths"] = {"root": str(self.paths.root), "state": str(self.paths.state)}
        return body
