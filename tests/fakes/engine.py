"""A container engine in memory, with the rules of the real one that the core relies on, and faults on demand.

Deterministic: ids, pids and start times come from a counter; nothing happens by itself except what the engine's
restart policy says, and that at once (or, with `hold_restarts`, never).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from agent.domain.container import (
    Attachment,
    ContainerSpec,
    ContainerState,
    Health,
    Live,
    NetworkSpec,
    Restart,
    RunState,
    VolumeSpec,
)
from agent.domain.platform import EngineInfo, Platform
from agent.domain.subnets import pick_subnet
from agent.errors import Conflict, GatewayError, NoSpace, NotFound, Refused, Unreachable
from agent.ports import EngineEvent
from tests.fakes.bridges import FakeBridges
from tests.fakes.engine_box import Box
from tests.fakes.faults import Faults
from tests.fakes.images import FakeImages


class FakeEngine:
    """`agent.ports.Engine` in memory.

    With `images`, `create` refuses an image that they do not hold; without, every image is there. `log` lists the
    calls as (operation, subject). Faults: see `tests.fakes.faults.Faults` (`fail_next`, `pause`), and the methods
    below that do what people, kernels and power cuts do. `disk` holds each volume folder's files, `on_start` is what
    containers do when they start, `gives` the limits that nobody asked it for.
    """

    def __init__(self, gateway_id: str, images: FakeImages | None = None) -> None:
        self.gateway_id = gateway_id
        self.hold_restarts = False
        self.faults = Faults()
        self.log: list[tuple[str, str]] = []
        self.lines: dict[str, list[str]] = {}
        self.graces: dict[str, int] = {}
        self.disk: dict[str, dict[str, str]] = {}
        self.on_start: Callable[[ContainerSpec], None] = lambda _: None
        self.gives: tuple[str, ...] = ()
        self._images = images
        self._boxes: dict[str, Box] = {}
        self.bridges = FakeBridges(lambda: [box.state for box in self._boxes.values()])
        self._networks: dict[str, NetworkSpec] = {}
        self._volumes: dict[str, VolumeSpec] = {}
        self._foreign_names: set[str] = set()
        self._streams: list[asyncio.Queue[EngineEvent | None]] = []
        self._back = asyncio.Event()
        self._back.set()
        self._count = 0

    # -- agent.ports.Engine -------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Return, or raise while `drop` holds."""
        await self._call("ping", "")

    async def info(self) -> EngineInfo:
        """Facts of a small gateway."""
        await self._call("info", "")
        return EngineInfo("20.10.0-fake", "1.41", Platform("amd64"), 4, 2 * 1024**3, "/var/lib/fake", "overlay2")

    async def containers(self, instance: str | None = None) -> list[ContainerState]:
        """This gateway's containers, of one instance or of all, newest first."""
        await self._call("containers", instance or "")
        return [b.state for b in reversed(self._boxes.values()) if instance in (None, b.spec.instance)]

    async def inspect(self, container_id: str) -> ContainerState | None:
        """One container, None when it is gone."""
        await self._call("inspect", container_id)
        return next((box.state for id_, box in self._boxes.items() if id_ == container_id), None)

    async def create(self, spec: ContainerSpec) -> str:
        """Make a container; one of the same name and spec is returned as it is. On a full disk it takes back what it began."""
        try:
            await self._call("create", spec.name)
        except NoSpace:
            self._emit("destroy", Box.made(spec, self._make_id(spec.name), spec.image).state)
            raise
        if spec.name in self._foreign_names:
            raise Conflict("engine.foreign", f"the name {spec.name} belongs to a container that is not the gateway's")
        for box in self._boxes.values():
            if box.spec.name == spec.name:
                if box.state.spec == spec.spec_hash:
                    return box.state.id
                raise Conflict("engine.name_taken", f"the name {spec.name} belongs to a container of another spec")
        image_id = spec.image if self._images is None else self._images.require(spec.image).id
        for mount in spec.mounts:
            if mount.kind == "volume" and mount.source not in self._volumes:
                self._volumes[mount.source] = VolumeSpec(mount.source, spec.instance, self.gateway_id)
        container_id = self._make_id(spec.name)
        self._boxes[container_id] = box = Box.made(spec, container_id, image_id)
        box.change(bent=self.gives)
        self._emit("create", box.state)
        return container_id

    async def start(self, container_id: str) -> None:
        """Start; one that runs is left alone. One that cannot be started dies, without having run."""
        try:
            await self._call("start", container_id)
        except NoSpace:
            self._emit("die", self._box(container_id).state)
            raise
        box = self._box(container_id)
        if box.state.state is RunState.RUNNING:
            return
        if box.state.state is RunState.PAUSED:
            box.change(state=RunState.RUNNING)
            self._emit("unpause", box.state)
            return
        self._require_networks(each.network for each in box.spec.networks)
        box.stopped_by_hand = False
        box.change(restart_count=0)
        self._run(box)

    async def stop(self, container_id: str, grace_s: int) -> None:
        """Stop; one that does not run, or is gone, is left alone."""
        await self._call("stop", container_id)
        self.graces[container_id] = grace_s
        box = self._boxes.get(container_id)
        if box is None or not box.state.serving:
            return
        box.stopped_by_hand = True
        self._end(box, exit_code=143)
        self._emit("stop", box.state)

    async def remove(self, container_id: str) -> None:
        """Remove, running or not; one that is gone is left alone."""
        await self._call("remove", container_id)
        box = self._boxes.pop(container_id, None)
        if box is None:
            return
        if box.state.serving:
            self._emit("die", box.state)
        self._emit("destroy", box.state)

    async def update(self, container_id: str, live: Live) -> None:
        """Change what can be changed live."""
        await self._call("update", container_id)
        box = self._box(container_id)
        had = box.state.live
        if (had.nano_cpus and not live.nano_cpus) or (had.mem_bytes and not live.mem_bytes):
            raise Refused("engine.cannot_lift", "the engine cannot take a limit away from a container that has one")
        box.change(live=live)
        self._emit("update", box.state)

    async def rename(self, container_id: str, name: str) -> None:
        """Give it another name, which no other container has."""
        await self._call("rename", container_id)
        if name in self._foreign_names or name in [b.state.name for b in self._boxes.values()]:
            raise Conflict("engine.conflict", f"the name {name} is in use")
        self._box(container_id).change(name=name)
        self._emit("rename", self._box(container_id).state)

    async def connect(self, container_id: str, networks: Sequence[Attachment]) -> None:
        """Connect to networks; those it is on are left alone."""
        await self._call("connect", container_id)
        box = self._box(container_id)
        self._require_networks(each.network for each in networks)
        box.join(networks)
        self._emit("connect", box.state)

    async def disconnect(self, container_id: str, networks: Sequence[str]) -> None:
        """Disconnect from networks; those it is not on are left alone."""
        await self._call("disconnect", container_id)
        box = self._box(container_id)
        box.leave(networks)
        self.bridges.free(container_id, networks)
        self._emit("disconnect", box.state)

    async def networks(self, instance: str | None = None) -> list[NetworkSpec]:
        """This gateway's networks."""
        await self._call("networks", instance or "")
        return [n for n in self._networks.values() if instance in (None, n.instance)]

    async def create_network(self, spec: NetworkSpec) -> None:
        """Make a network; one of the same name is left as it is. An empty subnet becomes a free /28."""
        await self._call("create_network", spec.name)
        if spec.name in self._foreign_names:
            raise Conflict("engine.foreign", f"the network {spec.name} is not the gateway's")
        if spec.name in self._networks:
            return
        used = [n.subnet for n in self._networks.values()]
        if spec.subnet in used:
            raise Conflict("engine.subnet_taken", f"the subnet {spec.subnet} is taken")
        subnet = spec.subnet or pick_subnet("10.213.0.0/16", used)
        self._networks[spec.name] = replace(spec, subnet=subnet, bridge=self.bridges.name(spec.name))

    async def remove_network(self, name: str) -> None:
        """Remove a network that no container uses; one that is gone is left alone."""
        await self._call("remove_network", name)
        if any(b.state.serving and name in (b.state.networks or ()) for b in self._boxes.values()):
            raise Conflict("engine.network_in_use", f"network {name} has active endpoints")
        self._networks.pop(name, None)
        self.bridges.make(name)

    async def bridge_ports(self) -> dict[str, int] | None:
        """See `FakeBridges`; unseen too while the engine is away."""
        await asyncio.sleep(0)
        return self.bridges.count(self._networks) if self._back.is_set() else None

    async def assure_isolation(self) -> None:
        """Nothing to restore here; fails as it is told."""
        await self._call("assure_isolation", "")

    async def volumes(self, instance: str | None = None) -> list[VolumeSpec]:
        """This gateway's volumes."""
        await self._call("volumes", instance or "")
        return [v for v in self._volumes.values() if instance in (None, v.instance)]

    async def create_volume(self, spec: VolumeSpec) -> None:
        """Make a volume; one of the same name is left as it is."""
        await self._call("create_volume", spec.name)
        if spec.name in self._foreign_names:
            raise Conflict("engine.foreign", f"the volume {spec.name} is not the gateway's")
        self._volumes.setdefault(spec.name, spec)

    async def remove_volume(self, name: str) -> None:
        """Remove a volume that no container uses; one that is gone is left alone."""
        await self._call("remove_volume", name)
        if any(m.source == name for b in self._boxes.values() for m in b.spec.mounts if m.kind == "volume"):
            raise Conflict("engine.volume_in_use", f"volume {name} is in use")
        self._volumes.pop(name, None)
        self.disk.pop(f"/fake/{name}", None)

    async def volume_folder(self, name: str) -> str:
        """A name in `disk`."""
        await self._call("volume_folder", name)
        if name in self._foreign_names:
            raise Conflict("engine.foreign", f"the volume {name} is not the gateway's")
        if name not in self._volumes:
            raise NotFound("engine.volume_not_found", f"no such volume: {name}")
        self.disk.setdefault(f"/fake/{name}", {})
        return f"/fake/{name}"

    async def logs(self, container_id: str, tail: int) -> list[str]:
        """The last lines that the test put into `lines[container_id]`."""
        await self._call("logs", container_id)
        self._box(container_id)
        return self.lines.get(container_id, [])[-tail:] if tail > 0 else []

    async def events(self) -> AsyncIterator[EngineEvent | None]:
        """None at once and after every `restore`, events in between."""
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        await self._back.wait()
        queue.put_nowait(None)
        self._streams.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._streams.remove(queue)

    # -- what happens to engines --------------------------------------------------------------------------------

    def fail_next(self, op: str, error: GatewayError, times: int = 1) -> None:
        """The next `times` calls of `op` raise `error` and do nothing."""
        self.faults.fail_next(op, error, times)

    def drop(self) -> None:
        """The engine goes away: every call raises Unreachable, no event arrives; containers run on."""
        self._back.clear()

    def restore(self) -> None:
        """The engine is back: calls work and every event stream yields None. What happened meanwhile is lost."""
        self._back.set()
        for queue in self._streams:
            queue.put_nowait(None)

    def pause(self, instance: str, service: str) -> None:
        """What `docker pause` does."""
        box = self._serving(instance, service)
        box.change(state=RunState.PAUSED)
        self._emit("pause", box.state)

    def plug(self, instance: str, service: str, network: str, *, off: bool = False) -> None:
        """What `docker network connect` does, or (`off`) `docker network disconnect`."""
        box = self._serving(instance, service)
        box.leave((network,)) if off else box.join((Attachment(network),))
        self._emit("disconnect" if off else "connect", box.state)

    def bend(self, instance: str, service: str) -> None:
        """What `docker update` does with a limit that the gateway never gives."""
        box = self._serving(instance, service)
        box.change(bent=("CpuShares=512",))
        self._emit("update", box.state)

    def crash(self, instance: str, service: str, exit_code: int = 1, *, oom: bool = False) -> None:
        """The service's serving container dies by itself; its restart policy decides what follows."""
        box = self._serving(instance, service)
        if oom:
            self._emit("oom", box.state)
        self._end(box, exit_code=exit_code, oom=oom)
        if not box.restarts(exit_code):
            return
        box.change(restart_count=box.state.restart_count + 1)
        if self.hold_restarts:
            box.change(state=RunState.RESTARTING)
        else:
            self._run(box)

    def kill_child_for_memory(self, instance: str, service: str) -> None:
        """The kernel kills one process of the service for memory; the first one lives on, and no mark is left."""
        self._emit("oom", self._serving(instance, service).state)

    def become(self, instance: str, service: str, health: Health, container_id: str = "") -> None:
        """The health probe of the service's serving container (or of the one named) changes its mind."""
        box = self._box(container_id) if container_id else self._serving(instance, service)
        box.change(health=health)
        self._emit("health_status", box.state)

    def vanish(self, instance: str, service: str) -> None:
        """Somebody removes the service's containers behind the gateway's back."""
        for state in self.find(instance, service):
            del self._boxes[state.id]
            for action in ("die", "destroy") if state.serving else ("destroy",):
                self._emit(action, state)

    def take_name(self, name: str) -> None:
        """A container, network or volume of somebody else has this name."""
        self._foreign_names.add(name)

    def reboot(self, *, backwards: bool = False) -> None:
        """The host restarts: what ran starts anew unless its policy is `no`, in any order; the event stream breaks."""
        for box in list(self._boxes.values())[:: -1 if backwards else 1]:
            if box.state.serving:
                stays_down = box.state.live.restart in (Restart.NO, Restart.ON_FAILURE)
                box.change(state=RunState.EXITED, health=Health.NONE, exit_code=255, pid=0)
                if not stays_down:
                    self._run(box)
        self.restore()

    def find(self, instance: str, service: str) -> list[ContainerState]:
        """The service's containers, serving or not, without a call being counted."""
        return [b.state for b in self._boxes.values() if (b.spec.instance, b.spec.service) == (instance, service)]

    def spec_of(self, container_id: str) -> ContainerSpec:
        """What the container was made from."""
        return self._boxes[container_id].spec

    # -- inside -------------------------------------------------------------------------------------------------

    async def _call(self, op: str, subject: str) -> None:
        await asyncio.sleep(0)  # a real call always lets others run
        await self.faults.pass_through(op)
        if not self._back.is_set():
            raise Unreachable("engine.unreachable", "the container engine does not answer")
        self.log.append((op, subject))

    def _box(self, container_id: str) -> Box:
        if container_id not in self._boxes:
            raise NotFound("engine.container_not_found", f"no such container: {container_id}")
        return self._boxes[container_id]

    def _require_networks(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._networks:
                raise NotFound("engine.network_not_found", f"network {name} not found")
            self.bridges.require(name)

    def _serving(self, instance: str, service: str) -> Box:
        for box in self._boxes.values():
            if (box.spec.instance, box.spec.service) == (instance, service) and box.state.serving:
                return box
        raise LookupError(f"no serving container of {instance}/{service}")

    def _make_id(self, name: str) -> str:
        self._count += 1
        return hashlib.sha256(f"{name} {self._count}".encode()).hexdigest()

    def _run(self, box: Box) -> None:
        self._count += 1
        box.run(self._count, probed=box.is_probed(self._images))
        self.on_start(box.spec)
        self._emit("start", box.state)

    def _end(self, box: Box, exit_code: int, *, oom: bool = False) -> None:
        box.end(exit_code, oom=oom)
        self._emit("die", box.state)

    def _emit(self, action: str, state: ContainerState) -> None:
        self._count += 1
        if not self._back.is_set():
            return
        event = EngineEvent(action, state.instance, state.service, state.id, self._count)
        for queue in self._streams:
            queue.put_nowait(event)
