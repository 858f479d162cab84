"""The typed steps of a plan: what can be done to an instance's containers, networks, volumes and their copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agent.domain.container import Attachment, ContainerSpec, Live, NetworkSpec, VolumeSpec

AWAIT_S = 120.0
"""How long others wait at least for a service that is neither as they need it nor on its way there."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `words` say it in one line, for the journal and for people; ``{0.field}`` is the step's own."""

    words: ClassVar[str]

    def __str__(self) -> str:
        return self.words.format(self)


@dataclass(frozen=True, slots=True)
class CreateNetwork(Step):
    """Make a bridge of the instance's own."""

    words = "create network {0.network.name}"
    network: NetworkSpec


@dataclass(frozen=True, slots=True)
class RemoveNetwork(Step):
    """Remove a bridge that nothing of the instance uses any more."""

    words = "remove network {0.name}"
    name: str


@dataclass(frozen=True, slots=True)
class CreateVolume(Step):
    """Make a named volume. `lost`: a proven version used it, so it was there, and its data are gone."""

    words = "create volume {0.volume.name}{0.again}"
    volume: VolumeSpec
    lost: bool = False

    @property
    def again(self) -> str:
        """What a loss adds to the words."""
        return " again, empty" if self.lost else ""


@dataclass(frozen=True, slots=True)
class RemoveVolume(Step):
    """Remove a named volume, only when an operator asked for it."""

    words = "remove volume {0.name}"
    name: str


@dataclass(frozen=True, slots=True)
class CreateContainer(Step):
    """Make a container, not started."""

    words = "create container {0.container.service} ({0.container.spec_hash}) from {0.container.image}"
    container: ContainerSpec


@dataclass(frozen=True, slots=True)
class StartContainer(Step):
    """Start the container of `service` whose spec is `spec`, or let it go on when it was paused."""

    words = "start container {0.service} ({0.spec})"
    service: str
    spec: str


@dataclass(frozen=True, slots=True)
class AwaitService(Step):
    """Wait until `service` runs (`condition` started), is healthy or has ended well (completed).

    `within_s` does not count while its healthcheck is starting, which has a deadline of its own.
    """

    words = "await {0.service} {0.condition}"
    service: str
    spec: str
    condition: str
    within_s: float = AWAIT_S


@dataclass(frozen=True, slots=True)
class OnContainer(Step):
    """Something that is done to a container that is there."""

    container_id: str
    service: str


@dataclass(frozen=True, slots=True)
class StopContainer(OnContainer):
    """Stop a container with its grace period."""

    words = "stop container {0.service} [{0.container_id:.12}]"
    grace_s: int


@dataclass(frozen=True, slots=True)
class RemoveContainer(OnContainer):
    """Remove a stopped container."""

    words = "remove container {0.service} [{0.container_id:.12}]"


@dataclass(frozen=True, slots=True)
class UpdateContainer(OnContainer):
    """Change limits or restart policy of a running container without a restart."""

    words = "update limits of {0.service} [{0.container_id:.12}]"
    live: Live


@dataclass(frozen=True, slots=True)
class RenameContainer(OnContainer):
    """Give a container its name back, without a restart."""

    words = "rename container {0.service} to {0.name} [{0.container_id:.12}]"
    name: str


@dataclass(frozen=True, slots=True)
class ConnectContainer(OnContainer):
    """Bring a container back to networks of its own that it was taken off, or never reached."""

    words = "connect {0.service} to {0.named} [{0.container_id:.12}]"
    networks: tuple[Attachment, ...]

    @property
    def named(self) -> str:
        """The networks as one text."""
        return _listed([each.network for each in self.networks])


@dataclass(frozen=True, slots=True)
class DisconnectContainer(OnContainer):
    """Take a container off networks that are not its own."""

    words = "disconnect {0.service} from {0.named} [{0.container_id:.12}]"
    networks: tuple[str, ...]

    @property
    def named(self) -> str:
        """The networks as one text."""
        return _listed(self.networks)


@dataclass(frozen=True, slots=True)
class OnData(Step):
    """Something that is done with the copies of `volumes` under `key`."""

    key: str
    volumes: tuple[str, ...]

    @property
    def named(self) -> str:
        """The volumes as one text."""
        return _listed(self.volumes)


@dataclass(frozen=True, slots=True)
class ReserveSnapshots(OnData):
    """Make sure that there is room for the copies, before anything is stopped for them."""

    words = "reserve room to copy {0.named}"


@dataclass(frozen=True, slots=True)
class SnapshotVolumes(OnData):
    """Copy the data, to go back to. Nothing that writes to them runs meanwhile."""

    words = "copy the data of {0.named} [{0.key}]"


@dataclass(frozen=True, slots=True)
class RestoreVolumes(OnData):
    """Make the data what the copies are. Nothing that uses them runs meanwhile."""

    words = "bring back the data of {0.named} [{0.key}]"


@dataclass(frozen=True, slots=True)
class DropSnapshots(Step):
    """Forget the copies under `key`."""

    words = "forget copies [{0.key}]"
    key: str


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
