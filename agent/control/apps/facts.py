"""What admission is told: what this gateway has, what is left of it, and what the other instances hold."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.control.catalog import Catalog
from agent.control.ledger import Ledger
from agent.domain.admission import check_binds
from agent.domain.app import Desired, Trial, Version
from agent.domain.container import ContainerState, ImageInfo
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Strategy
from agent.domain.planner import Observed
from agent.domain.platform import EngineInfo
from agent.domain.policy import Claim, Facts
from agent.errors import GatewayError, Refused
from agent.ports import Ground, Room


@dataclass(frozen=True, slots=True)
class Look:
    """What had to be asked of the machine for one spec, as it was then."""

    room: Room = field(default_factory=Room)
    real_paths: Mapping[str, str] = field(default_factory=dict)
    volume_bytes: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, ImageInfo] = field(default_factory=dict)


class FactBook:
    """`look` asks the machine, `facts` puts together what is known at this moment, `guard` asks again before a start.

    `engine_info` is what is known of the engine now; None before it was ever reached. `observed` is what runs.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        ground: Ground,
        engine_info: Callable[[], EngineInfo | None],
        observed: Callable[[], Mapping[str, Observed]],
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._ground = ground
        self._engine_info = engine_info
        self._observed = observed

    async def look_around(self, *, listening: bool) -> Look:
        """What is left on this machine, whatever the spec; with `listening` also who listens on it."""
        info = self._engine_info()
        return Look(await self._ground.room(info.root_dir, listening=listening)) if info else Look()

    async def look(self, spec: AppSpec, images: Mapping[str, ImageInfo]) -> Look:
        """What is left on this machine, where the binds of `spec` lead, and what the volumes hold that will be copied."""
        around, real_paths = await asyncio.gather(
            self.look_around(listening=bool(_published(spec))), asyncio.to_thread(_resolve, spec.bind_sources())
        )
        info = self._engine_info()
        held = {}
        for name in spec.update.rollback_volumes if info else ():
            held[name] = await self._ground.tree_bytes(f"{info.root_dir}/volumes/{name}/_data")  # type: ignore[union-attr]
        return Look(around.room, real_paths, held, images)

    def facts(self, instance: str, look: Look) -> Facts:
        """All facts for `instance`: what others hold is read now, so that a decision can rely on it."""
        here = [d for d in self._ledger.desired.values() if d.current is not None]
        held = {d.name: specs for d in here if (specs := self._held(d))}
        unread = {d.name: self._serving(d.name) for d in here if self._catalog.find(d) is None}
        seen = {key: f"instance {name}" for name, each in unread.items() if name != instance for key in _holding(each)}
        others = [spec for name, specs in held.items() if name != instance for spec in specs]
        info = self._engine_info()
        premises = self._catalog.premises
        return Facts(
            architecture=info.platform.architecture if info else "",
            variant=info.platform.variant if info else "",
            cpus=info.cpus if info else 0,
            mem_bytes=info.mem_bytes if info else 0,
            pids=look.room.pids,
            disk_free_bytes=look.room.disk_free_bytes,
            volume_bytes=look.volume_bytes,
            claims={name: _claim(specs) for name, specs in held.items()}
            | {name: _claim_of(each) for name, each in unread.items()},
            host_ports=seen | {key: f"instance {spec.instance}" for spec in others for key in _published(spec)},
            listening=self._strangers(look.room, others, self._ledger.desired.get(instance), seen),
            publishers={spec.instance: spec.grants.points_publish for spec in others},
            images=look.images,
            real_paths=look.real_paths,
            gateway_ports=premises.ports,
            port_holders={port: f"instance {spec.instance}" for spec in others for _, port in spec.ports},
            port_devices=premises.devices,
            shared_ports=premises.shared_ports,
        )

    async def guard(self, instance: str) -> None:
        """Refused when a bind of the wanted version no longer leads where admission saw it lead."""
        desired = self._ledger.desired.get(instance)
        if desired is None or desired.current is None:
            return
        spec = self._catalog.spec(desired)
        sources = spec.bind_sources()
        if not set(sources) - {spec.app_dir, spec.esdk_dir}:
            return
        real_paths = await asyncio.to_thread(_resolve, sources)
        wrong = check_binds(spec, self._catalog.premises.policy, real_paths)
        if wrong:
            raise Refused(
                "admission.bind",
                f"{instance} is not started: {wrong}",
                hint="put back what has changed since it was installed: the folder, or the grant that allowed it",
            )

    def _held(self, desired: Desired) -> list[AppSpec]:
        """What an instance may need at any moment: while a version is on trial also the one it would go back to.

        One that cannot be read any more asks for nothing, and must not stand in the way of all others; what of it runs
        holds what it has.
        """
        wanted = self._catalog.find(desired)
        specs = [wanted] if wanted is not None else []
        if desired.trial is Trial.VERIFYING and desired.previous is not None:
            specs += self._specs_of(desired.name, [desired.previous])
        return specs

    def _specs_of(self, instance: str, versions: Sequence[Version]) -> list[AppSpec]:
        """Those that can still be read: an old one that cannot holds nothing."""
        found = []
        for version in versions:
            with contextlib.suppress(GatewayError):
                found.append(self._catalog.spec_of(instance, version))
        return found

    def _serving(self, instance: str) -> list[ContainerState]:
        seen = self._observed().get(instance)
        return [c for c in seen.containers if c.serving] if seen is not None else []

    def _strangers(
        self, room: Room, others: Sequence[AppSpec], mine: Desired | None, seen: Iterable[tuple[int, str]]
    ) -> frozenset[tuple[int, str, str]]:
        """Sockets of the host that belong to no APP of ours: the engine listens for those that publish a port."""
        if not room.listening:
            return frozenset()
        own = self._specs_of(mine.name, mine.versions) if mine else []
        known = {key for spec in (*others, *own) for key in _published(spec)}.union(seen)
        known.update(_holding(self._serving(mine.name) if mine else ()))
        return frozenset(each for each in room.listening if each[:2] not in known)


def _claim(specs: Sequence[AppSpec]) -> Claim:
    """What an instance takes at most: of two versions the larger one, or with start-first, which runs both, their sum."""
    rows = [[container.live for container in spec.containers] for spec in specs]
    memory = [sum(live.mem_bytes for live in row) for row in rows]
    pids = [sum(live.pids for live in row) for row in rows]
    if specs[0].update.strategy is Strategy.START_FIRST:
        return Claim(sum(memory), sum(pids))
    return Claim(max(memory), max(pids))


def _claim_of(containers: Sequence[ContainerState]) -> Claim:
    """What these take at most by the limits that they run with."""
    return Claim(sum(c.live.mem_bytes for c in containers), sum(c.live.pids for c in containers))


def _holding(containers: Sequence[ContainerState]) -> set[tuple[int, str]]:
    return {key for container in containers for key in container.published}


def _published(spec: AppSpec) -> list[tuple[int, str]]:
    return [(port.host_port, port.protocol) for container in spec.containers for port in container.ports]


def _resolve(sources: Sequence[str]) -> dict[str, str]:
    """Where binds really lead; reads the disk, so never in the loop."""
    return {source: os.path.realpath(source) for source in sources}
