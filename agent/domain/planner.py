"""What to do next so that an instance becomes what it shall be: a pure function from two states to typed steps.

Each step is journaled before and after it runs. The plan is made afresh after every interruption from what the
engine then reports, so being killed between two steps needs no memory: the rest of the plan is planned again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.domain.app import Desired, Trial, Wanted
from agent.domain.container import ContainerSpec, ContainerState, Live, NetworkSpec, Restart, RunState, VolumeSpec
from agent.domain.instantiate import AppSpec


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
    """Wait until `service` runs (`condition` started), is healthy or has ended well (completed)."""

    service: str
    spec: str
    condition: str


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
)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the engine reports of one instance. `looping` are services whose restarts the supervisor owns."""

    containers: tuple[ContainerState, ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    looping: frozenset[str] = field(default_factory=frozenset)


DEFAULT_GRACE_S = 10
ENDING = (Restart.NO, Restart.ON_FAILURE)
"""Restart policies with which a service that ended without an error is as it shall be."""


def plan(desired: Desired, spec: AppSpec | None, observed: Observed) -> tuple[Step, ...]:
    """The steps that are missing, in order. An empty plan means: it is as it shall be."""
    if desired.wanted in (Wanted.ABSENT, Wanted.PURGED):
        return _plan_removal(observed, purge=desired.wanted is Wanted.PURGED)
    if spec is None:
        return ()
    if desired.wanted is Wanted.STOPPED:
        stops = _stop(_in_stop_order(spec, [c for c in observed.containers if c.serving]), spec)
        return (*stops, *_remove(_outdated(spec, observed)), *_remove(_to_run_again(spec, observed)))
    return _plan_running(spec, observed, keep_old=desired.trial is Trial.VERIFYING)


def _plan_removal(observed: Observed, *, purge: bool) -> tuple[Step, ...]:
    serving = [c for c in observed.containers if c.serving]
    steps: list[Step] = [StopContainer(c.id, c.service, DEFAULT_GRACE_S) for c in reversed(serving)]
    steps += [RemoveContainer(c.id, c.service) for c in observed.containers]
    steps += [RemoveNetwork(n.name) for n in observed.networks]
    if purge:
        steps += [RemoveVolume(v.name) for v in observed.volumes]
    return tuple(steps)


def _plan_running(spec: AppSpec, observed: Observed, *, keep_old: bool) -> tuple[Step, ...]:
    current = _current(spec, observed)
    outdated = _outdated(spec, observed)
    # A dead container still holds its name, which the new one needs.
    steps: list[Step] = [RemoveContainer(c.id, c.service) for c in outdated if c.state is RunState.DEAD]
    outdated = [c for c in outdated if c.state is not RunState.DEAD]
    have_networks = {n.name for n in observed.networks}
    have_volumes = {v.name for v in observed.volumes}
    steps += [CreateNetwork(n) for n in spec.networks if n.name not in have_networks]
    steps += [CreateVolume(v) for v in spec.volumes if v.name not in have_volumes]
    steps += [CreateContainer(c) for c in spec.containers if c.service not in current]
    steps += _stop(_in_stop_order(spec, [c for c in outdated if c.serving]), spec)
    for container in spec.containers:
        steps += _bring_up(spec, container, current.get(container.service), observed.looping)
    if not keep_old:
        steps += _remove(outdated)
        wanted = {n.name for n in spec.networks}
        steps += [RemoveNetwork(n.name) for n in observed.networks if n.name not in wanted]
    return tuple(steps)


def _bring_up(
    spec: AppSpec, container: ContainerSpec, current: ContainerState | None, looping: frozenset[str]
) -> Iterable[Step]:
    """Start what does not run and mend what can be mended live. The supervisor's loops are its own affair."""
    if container.service in looping and current is not None:
        return  # but one that was made just now in place of a lost one would wait for a start for ever
    if current is not None and current.ended_well and container.live.restart in ENDING:
        return
    if current is not None and current.serving:
        if current.state is RunState.PAUSED:
            yield StartContainer(container.service, container.spec_hash)
        if current.live != container.live:
            yield UpdateContainer(current.id, container.service, container.live)
        return
    for service, condition in spec.depends_on(container.service):
        needed = next(c for c in spec.containers if c.service == service)
        yield AwaitService(service, needed.spec_hash, condition)
    if current is not None and current.live != container.live:
        yield UpdateContainer(current.id, container.service, container.live)
    yield StartContainer(container.service, container.spec_hash)


def _current(spec: AppSpec, observed: Observed) -> dict[str, ContainerState]:
    """Per service the one container that is right; of several, the serving one."""
    wanted = {c.service: c.spec_hash for c in spec.containers}
    found: dict[str, ContainerState] = {}
    for container in sorted(observed.containers, key=lambda c: (not c.serving, c.id)):
        usable = container.state not in (RunState.DEAD, RunState.REMOVING)
        if usable and wanted.get(container.service) == container.spec:
            found.setdefault(container.service, container)
    return found


def _outdated(spec: AppSpec, observed: Observed) -> list[ContainerState]:
    right = {c.id for c in _current(spec, observed).values()}
    return [c for c in observed.containers if c.id not in right]


def _to_run_again(spec: AppSpec, observed: Observed) -> list[ContainerState]:
    """Containers that may come to an end: stopped ones would look as if they had, so each start makes them anew."""
    ending = {c.service for c in spec.containers if c.live.restart in ENDING}
    return [c for service, c in _current(spec, observed).items() if service in ending]


def _in_stop_order(spec: AppSpec, containers: Iterable[ContainerState]) -> list[ContainerState]:
    """Reverse start order; services the release no longer has go first."""
    rank = {c.service: n for n, c in enumerate(spec.containers)}
    return sorted(containers, key=lambda c: -rank.get(c.service, len(rank)))


def _stop(containers: Sequence[ContainerState], spec: AppSpec) -> list[Step]:
    grace = {c.service: c.stop_grace_s for c in spec.containers}
    return [StopContainer(c.id, c.service, grace.get(c.service, DEFAULT_GRACE_S)) for c in containers]


def _remove(containers: Iterable[ContainerState]) -> list[Step]:
    """Remove outdated containers; the plan has stopped those that served before it comes here."""
    return [RemoveContainer(c.id, c.service) for c in containers]


def take_over(live: Live) -> Live:
    """`live` with the restart policy taken away from the engine: the agent owns the back-off."""
    return replace(live, restart=Restart.NO)
