"""The typed steps of a plan: what can be done to an instance's containers, networks, volumes and their copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agent.domain.container import Attachment, ContainerSpec, Live, NetworkSpec, VolumeSpec

AWAIT_S = 120.0
"""How long others wait at least for a service that is neither as they need it nor on its way there."""


@dataclass(frozen=True, slots=True)
class CreateNetwork:
    """Make a bridge of the instance's own."""

    network: NetworkSpec


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    """Remove a bridge that nothing of the instance uses any more."""

    name: str


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """Make a named volume."""

    volume: VolumeSpec


@dataclass(frozen=True, slots=True)
class RemoveVolume:
    """Remove a named volume, only when an operator asked for it."""

    name: str


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """Make a container, not started."""

    container: ContainerSpec


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Start the container of `service` whose spec is `spec`, or let it go on when it was paused."""

    service: str
    spec: str


@dataclass(frozen=True, slots=True)
class AwaitService:
    """Wait until `service` runs (`condition` started), is healthy or has ended well (completed).

    `within_s` does not count while its healthcheck is starting, which has a deadline of its own.
    """

    service: str
    spec: str
    condition: str
    within_s: float = AWAIT_S


@dataclass(frozen=True, slots=True)
class StopContainer:
    """Stop a container with its grace period."""

    container_id: str
    service: str
    grace_s: int


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove a stopped container."""

    container_id: str
    service: str


@dataclass(frozen=True, slots=True)
class UpdateContainer:
    """Change limits or restart policy of a running container without a restart."""

    container_id: str
    service: str
    live: Live


@dataclass(frozen=True, slots=True)
class ConnectContainer:
    """Bring a container back to networks of its own that it was taken off, or never reached."""

    container_id: str
    service: str
    networks: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class DisconnectContainer:
    """Take a container off networks that are not its own."""

    container_id: str
    service: str
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReserveSnapshots:
    """Make sure that there is room for copies of `volumes`, before anything is stopped for them."""

    key: str
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotVolumes:
    """Copy the data of `volumes` under `key`, to go back to. Nothing that writes to them runs meanwhile."""

    key: str
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestoreVolumes:
    """Make the data of `volumes` what the copies under `key` are. Nothing that uses them runs meanwhile."""

    key: str
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropSnapshots:
    """Forget the copies under `key`."""

    key: str


Step: TypeAlias = (
    CreateNetwork
    | RemoveNetwork
    | CreateVolume
    | RemoveVolume
    | CreateContainer
    | StartContainer
    | AwaitService
    | StopContainer
    | RemoveContainer
    | UpdateContainer
    | ConnectContainer
    | DisconnectContainer
    | ReserveSnapshots
    | SnapshotVolumes
    | RestoreVolumes
    | DropSnapshots
)
