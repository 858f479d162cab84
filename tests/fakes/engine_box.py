"""One container of the engine in memory: what it was made from, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from agent.domain.container import Attachment, ContainerSpec, ContainerState, DiskPlaces, Health, Restart, RunState
from tests.fakes.images import FakeImages


@dataclass(slots=True)
class Box:
    """Changes of state as the engine makes them; `state` is what it reports."""

    spec: ContainerSpec
    state: ContainerState
    stopped_by_hand: bool = False

    @classmethod
    def made(cls, spec: ContainerSpec, container_id: str, image_id: str) -> Self:
        """A new one, not started."""
        state = ContainerState(
            id=container_id,
            name=spec.name,
            instance=spec.instance,
            service=spec.service,
            release=spec.release,
            spec=spec.spec_hash,
            image_id=image_id,
            state=RunState.CREATED,
            live=spec.live,
            published=tuple(sorted({(each.host_port, each.protocol) for each in spec.ports})),
            attachments=tuple(sorted(spec.joins, key=lambda each: each.network)) or (Attachment("none"),),
            places=DiskPlaces(
                f"/fake/{container_id}/layer",
                f"/fake/{container_id}/log",
                tuple(sorted(f"/fake/volumes/{m.source}" for m in spec.mounts if m.kind == "volume")),
            ),
        )
        return cls(spec, state)

    def change(self, **changes: object) -> None:
        """Set fields of the state."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def run(self, number: int, *, probed: bool) -> None:
        """It runs; `number` makes start time, pid and address its own, `probed`: it has a health probe."""
        self.change(
            state=RunState.RUNNING,
            health=Health.STARTING if probed else Health.NONE,
            started_at=f"2026-01-01T00:00:00.{number:09d}Z",
            pid=10_000 + number,
            exit_code=0,
            address="" if self.spec.network == "none" else f"10.213.0.{number % 250 + 2}",
        )

    def is_probed(self, images: FakeImages | None) -> bool:
        """Whether it has a health probe, its own or its image's."""
        own = self.spec.healthcheck.test if self.spec.healthcheck else ()
        if own or images is None:
            return own[:1] != ("NONE",) and self.spec.healthcheck is not None
        return images.require(self.state.image_id).has_healthcheck

    def end(self, exit_code: int, *, oom: bool = False) -> None:
        """It has ended."""
        self.change(state=RunState.EXITED, health=Health.NONE, exit_code=exit_code, oom_killed=oom, pid=0, address="")

    def restarts(self, exit_code: int) -> bool:
        """Whether its policy starts it again after that end."""
        policy = self.state.live.restart
        return exit_code != 0 if policy is Restart.ON_FAILURE else policy in (Restart.ALWAYS, Restart.UNLESS_STOPPED)

    def join(self, networks: Iterable[Attachment]) -> None:
        """It is on these networks too, at the address that is asked for; those it is on are left alone."""
        on = {each.network: each for each in (*networks, *(self.state.attachments or ()))}
        self.change(attachments=tuple(on[name] for name in sorted(on)))

    def leave(self, networks: Iterable[str]) -> None:
        """It is on these networks no more."""
        gone = set(networks)
        self.change(attachments=tuple(each for each in self.state.attachments or () if each.network not in gone))
