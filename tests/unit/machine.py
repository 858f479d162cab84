"""An engine in memory that does exactly what the planner's steps say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.domain import steps as kinds
from agent.domain.app import Desired, Trial, Wanted
from agent.domain.command import Origin
from agent.domain.container import (
    Attachment,
    ContainerSpec,
    ContainerState,
    Live,
    Mount,
    NetworkSpec,
    RunState,
    VolumeSpec,
)
from agent.domain.instantiate import AppSpec
from agent.domain.planner import Observed, plan

LIVE = Live(mem_bytes=64, pids=8)


def container(service: str, image: str) -> ContainerSpec:
    return ContainerSpec(
        name=f"ec-app-{service}", instance="app", service=service, release="r", image=image, gateway="g", live=LIVE
    )


def spec(*images: str, network: bool = False, volume: bool = False) -> AppSpec:
    """Services a, b, c ... running `images`; each depends on the one before."""
    containers = tuple(container("abc"[n], image) for n, image in enumerate(images))
    depends = tuple(("abc"[n], (("abc"[n - 1], "started"),)) for n in range(1, len(images)))
    return AppSpec(
        instance="app",
        release="r",
        version="1",
        containers=containers,
        dependencies=depends,
        networks=(NetworkSpec("net", "app", "g"),) if network else (),
        volumes=(VolumeSpec("vol", "app", "g"),) if volume else (),
    )


def desired(wanted: Wanted = Wanted.RUNNING, trial: Trial = Trial.PROVEN) -> Desired:
    return Desired("app", Origin.LOCAL, wanted, trial=trial)


@dataclass
class Machine:
    """Carries steps out in memory and notices what must never be: too many serving, data copied while written to.

    A container that starts writes its image's name into its volumes. `hand_over`: two of a service may serve.
    """

    containers: dict[str, ContainerState] = field(default_factory=dict)
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    volumes: dict[str, VolumeSpec] = field(default_factory=dict)
    data: dict[str, tuple[str, ...]] = field(default_factory=dict)
    copies: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    mounts: dict[str, tuple[Mount, ...]] = field(default_factory=dict)
    hand_over: bool = False
    made: int = 0

    def observed(self) -> Observed:
        return Observed(
            tuple(reversed(self.containers.values())),
            tuple(self.networks.values()),
            tuple(self.volumes.values()),
            snapshots=frozenset(self.copies),
        )

    def apply(self, step: kinds.Step) -> None:
        match step:
            case kinds.CreateNetwork(network):
                self.networks[network.name] = network
            case kinds.RemoveNetwork(name):
                del self.networks[name]
            case kinds.CreateVolume(volume):
                self.volumes[volume.name] = volume
            case kinds.RemoveVolume(name):
                del self.volumes[name]
            case kinds.CreateContainer(wanted):
                held = [
                    c for c in self.containers.values() if (c.service, c.spec) == (wanted.service, wanted.spec_hash)
                ]
                assert not held, "its name is taken: the engine would give back what holds it"
                self.made += 1
                self.add(wanted, RunState.CREATED)
            case kinds.StartContainer(service, spec_hash):
                self.start(service, spec_hash)
            case kinds.StopContainer(id_, _, _):
                self.containers[id_] = replace(self.containers[id_], state=RunState.EXITED)
            case kinds.RemoveContainer(id_, _):
                assert not self.containers[id_].serving, "a serving container would be removed"
                del self.containers[id_], self.mounts[id_]
            case kinds.UpdateContainer(id_, _, live):
                self.containers[id_] = replace(self.containers[id_], live=live)
            case kinds.AwaitService(service, _, _):
                assert self.serving(service), f"{service} is awaited but was not started"
            case kinds.ConnectContainer() | kinds.DisconnectContainer() | kinds.RenameContainer():
                self.wire(step)
            case _:
                self.copy(step)

    def wire(self, step: kinds.ConnectContainer | kinds.DisconnectContainer | kinds.RenameContainer) -> None:
        """The steps about which networks a container is on, and under which name."""
        on = self.containers[step.container_id].attachments or ()
        match step:
            case kinds.ConnectContainer(id_, _, attachments):
                assert {each.network for each in attachments} <= self.networks.keys(), "a network is not there yet"
                self.plug(id_, *on, *attachments)
            case kinds.RenameContainer(id_, _, name):
                self.containers[id_] = replace(self.containers[id_], name=name)
            case kinds.DisconnectContainer(id_, _, names):
                self.plug(id_, *(each for each in on if each.network not in names))

    def bend(self, service: str, *limits: str) -> ContainerState:
        """Somebody limits the newest container of `service` by hand; what it was before."""
        old = [c for c in self.containers.values() if c.service == service][-1]
        self.containers[old.id] = replace(old, bent=limits or ("CpuShares=512",))
        return old

    def plug(self, container_id: str, *joined: Attachment) -> None:
        """It is on these networks and no others."""
        on = tuple(sorted(joined, key=lambda each: each.network))
        self.containers[container_id] = replace(self.containers[container_id], attachments=on)

    def start(self, service: str, spec_hash: str) -> None:
        """Start the container of that spec; it writes into its volumes."""
        found = next(c for c in self.containers.values() if (c.service, c.spec) == (service, spec_hash))
        most = 1 if self.hand_over else 0
        assert len(self.serving(service)) <= most, f"too many containers of {service} would serve"
        self.containers[found.id] = replace(found, state=RunState.RUNNING)
        for mount in self.mounts[found.id]:
            if not mount.read_only:
                self.data[mount.source] = (*self.data.get(mount.source, ()), found.image_id)

    def copy(self, step: kinds.Step) -> None:
        """The steps about data: nothing that writes may run meanwhile."""
        match step:
            case kinds.SnapshotVolumes(key, volumes):
                for volume in volumes:
                    assert not self.users(volume, writing=True), f"{volume} is copied while it is written to"
                    assert (key, volume) not in self.copies, f"{volume} is copied twice"
                    self.copies[key, volume] = self.data.get(volume, ())
            case kinds.RestoreVolumes(key, volumes):
                for volume in volumes:
                    assert not self.users(volume), f"{volume} is brought back while it is used"
                    self.data[volume] = self.copies[key, volume]
            case kinds.DropSnapshots(key):
                self.copies = {at: kept for at, kept in self.copies.items() if at[0] != key}

    def users(self, volume: str, *, writing: bool = False) -> list[str]:
        """Ids of the serving containers that mount `volume`."""
        found = {
            id_
            for id_, mounts in self.mounts.items()
            for m in mounts
            if m.source == volume and not (writing and m.read_only)
        }
        return sorted(id_ for id_ in found if self.containers[id_].serving)

    def serving(self, service: str) -> list[ContainerState]:
        return [c for c in self.containers.values() if c.service == service and c.serving]

    def add(self, wanted: ContainerSpec, state: RunState, live: Live = LIVE) -> None:
        id_ = f"c{len(self.containers)}-{self.made}-{wanted.image}-{wanted.service}"
        self.mounts[id_] = wanted.mounts
        self.containers[id_] = ContainerState(
            id_, wanted.name, "app", wanted.service, wanted.release, wanted.spec_hash, wanted.image, state, live=live
        )
        self.plug(id_, *(wanted.joins or (Attachment("none"),)))

    def run(self, want: Desired, target: AppSpec | None) -> list[kinds.Step]:
        steps = list(plan(want, target, self.observed()))
        for step in steps:
            self.apply(step)
        return steps
