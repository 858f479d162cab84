"""What to do next so that an instance becomes what it shall be: a pure function from two states to typed steps.

Each step is journaled before and after it runs. The plan is made afresh after every interruption from what the
engine then reports, so being killed between two steps needs no memory: the rest of the plan is planned again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from agent.domain.app import Desired, Trial, Wanted
from agent.domain.container import ContainerSpec, ContainerState, Live, NetworkSpec, Restart, RunState, VolumeSpec
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Strategy
from agent.domain.steps import (
    AWAIT_S,
    AwaitService,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DropSnapshots,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    ReserveSnapshots,
    RestoreVolumes,
    SnapshotVolumes,
    StartContainer,
    Step,
    StopContainer,
    UpdateContainer,
)
from agent.domain.wiring import hush, mend, remake


@dataclass(frozen=True, slots=True)
class Observed:
    """What the engine reports of one instance, newest containers first. `looping` are services that the supervisor restarts.

    `snapshots` are the finished copies of its volumes, each as (key, volume); `cut` are networks that join nobody any more;
    `given` are limits that the engine gives its containers by itself (see `learn`).
    """

    containers: tuple[ContainerState, ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    looping: frozenset[str] = field(default_factory=frozenset)
    snapshots: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    cut: frozenset[str] = field(default_factory=frozenset)
    given: frozenset[str] = field(default_factory=frozenset)

    def copies(self, key: str) -> tuple[str, ...]:
        """The volumes with a finished copy under `key`."""
        return tuple(sorted(volume for held, volume in self.snapshots if held == key)) if key else ()


DEFAULT_GRACE_S = 10
ENDING = (Restart.NO, Restart.ON_FAILURE)
"""Restart policies with which a service that ended without an error is as it shall be."""


def learn(before: Observed | None, now: Observed) -> frozenset[str]:
    """The limits that making a container anew did not take away, by two looks at an instance in a row.

    What a bent container had, and the one just made in its place has too, is what this engine gives: no reason to make
    it anew for ever.
    """
    if before is None:
        return frozenset()
    known = {c.id for c in before.containers}
    stay = {c.id for c in now.containers}
    had = {(c.service, c.spec): frozenset(c.bent) for c in before.containers if c.id not in stay}
    fresh = [(had.get((c.service, c.spec), frozenset()), c.bent) for c in now.containers if c.id not in known]
    return frozenset().union(*(old.intersection(new) for old, new in fresh))


def plan(desired: Desired, spec: AppSpec | None, observed: Observed, before: AppSpec | None = None) -> tuple[Step, ...]:
    """The steps that are missing, in order. An empty plan means: it is as it shall be.

    `before` is what the version to go back to is here: on trial, a start-first release lets it serve on. Each container
    is stopped as its own version says. What is removed or stopped need have neither: `spec` is None for what nobody knows.
    """
    if desired.wanted in (Wanted.ABSENT, Wanted.PURGED):
        return _plan_removal(desired, _versions(desired, spec, before), observed)
    stopped = desired.wanted is Wanted.STOPPED
    if spec is None and not stopped:
        return ()  # whether what nobody can read any more shall run as it is, nobody can tell; it can still be stopped
    if observed.copies(desired.restore):
        return _plan_restoring(desired, spec, observed, before)
    if spec is None:
        return tuple(_stop([c for c in observed.containers if c.serving], _versions(desired, None, before)))
    if stopped:
        stops = _stop([c for c in observed.containers if c.serving], _versions(desired, spec, before))
        gone = [*_outdated(spec, observed), *_to_run_again(spec, observed)]
        return (*stops, *_remove(gone), *_drop(desired, observed))
    return (*_plan_running(desired, spec, observed, before), *_drop(desired, observed))


def _plan_removal(desired: Desired, versions: Sequence[AppSpec], observed: Observed) -> tuple[Step, ...]:
    steps = _stop([c for c in observed.containers if c.serving], versions)
    steps += [RemoveContainer(c.id, c.service) for c in observed.containers]
    steps += [RemoveNetwork(n.name) for n in observed.networks]
    if desired.wanted is Wanted.PURGED:
        steps += [RemoveVolume(v.name) for v in observed.volumes]
    steps += [DropSnapshots(key) for key in sorted({key for key, _ in observed.snapshots})]
    return tuple(steps)


def _plan_restoring(
    desired: Desired, spec: AppSpec | None, observed: Observed, before: AppSpec | None
) -> tuple[Step, ...]:
    """Bring data back, and nothing else: the next plan, made once that is written down, starts what shall run."""
    volumes = observed.copies(desired.restore)
    serving = [c for c in observed.containers if c.serving]
    goes_on: set[str] = set()
    if spec is not None and desired.wanted is Wanted.RUNNING:
        users = {c.service for c in spec.containers if _mounts(c, volumes)}
        goes_on = {c.id for c in _current(spec, observed).values() if c.service not in users}
    steps = _stop([c for c in serving if c.id not in goes_on], _versions(desired, spec, before))
    have = {v.name for v in observed.volumes}
    steps += [CreateVolume(v) for v in (spec.volumes if spec else ()) if v.name in volumes and v.name not in have]
    return (*steps, RestoreVolumes(desired.restore, volumes))


def _plan_running(desired: Desired, spec: AppSpec, observed: Observed, before: AppSpec | None) -> tuple[Step, ...]:
    on_trial = desired.trial is Trial.VERIFYING
    in_the_way = _in_the_way(spec, observed)
    steps = _stop([c for c in in_the_way if c.serving], _versions(desired, spec, before)) + _remove(in_the_way)
    observed = replace(observed, containers=tuple(c for c in observed.containers if c not in in_the_way))
    current = _current(spec, observed)
    outdated = _outdated(spec, observed)
    staying = _serving_on(spec, before, outdated) if on_trial else set()
    if before is not None and any(c.serving for c in outdated if c.id in staying):
        spec = hush(spec, before)
    steps += remake(_versions(desired, spec, before), observed.containers, observed.networks, observed.cut)
    have_networks = {n.name for n in observed.networks}
    have_volumes = {v.name for v in observed.volumes}
    steps += [CreateNetwork(n) for n in spec.networks if n.name not in have_networks]
    # A trial may have been given up before anything was made of it, where its release does not go back by itself.
    unmade = before is not None and not current and bool(_current(before, Observed(tuple(outdated))))
    proven = before if on_trial or unmade else spec
    had = {v.name for v in proven.volumes} if proven is not None else set()
    steps += [CreateVolume(v, lost=v.name in had) for v in spec.volumes if v.name not in have_volumes]
    steps += [CreateContainer(c) for c in spec.containers if c.service not in current]
    steps += [step for c in spec.containers if c.service in current for step in _put_right(c, current[c.service])]
    to_save = _to_save(desired, spec, observed)
    writers = _writers(spec, current, to_save)
    # On trial, what a cut network made of its health and its restarts would else be taken for the release's own doing.
    upset = [c for c in current.values() if on_trial and observed.cut & set(c.networks or ())]
    in_use = [c for c in current.values() if c.serving and (c in writers or c in upset)]
    leaving = [c for c in outdated if c.serving and c.id not in staying]
    steps += [ReserveSnapshots(desired.snapshot, to_save)] if to_save else []
    steps += _stop([*leaving, *in_use], _versions(desired, spec, before))
    steps += [SnapshotVolumes(desired.snapshot, to_save)] if to_save else []
    stopped = {c.service for c in in_use}
    for container in spec.containers:
        now = current.get(container.service)
        if now is not None and now.service in stopped:
            now = replace(now, state=RunState.CREATED)
        steps += _bring_up(spec, container, now, observed.looping)
    if not on_trial:
        steps += _remove(outdated)
        wanted = {n.name for n in spec.networks}
        steps += [RemoveNetwork(n.name) for n in observed.networks if n.name not in wanted]
    return tuple(steps)


def _serving_on(spec: AppSpec, before: AppSpec | None, outdated: Sequence[ContainerState]) -> set[str]:
    """Ids of the containers that a start-first release on trial lets serve beside it: one of each service, proven.

    Data can go back only when one version at a time writes them, whatever slipped through admission.
    """
    if before is None or spec.update.strategy is not Strategy.START_FIRST or spec.update.rollback_volumes:
        return set()
    return {c.id for c in _current(before, Observed(tuple(outdated))).values()}


def _to_save(desired: Desired, spec: AppSpec, observed: Observed) -> tuple[str, ...]:
    """The volumes to copy before the version on trial starts: those its release names, where any container changes.

    A first installation has nothing to go back to, and what the engine changes live touches no data.
    """
    if desired.trial is not Trial.VERIFYING or not desired.history or not desired.snapshot:
        return ()
    current = _current(spec, observed)
    fresh = any(c.state is RunState.CREATED for c in current.values()) or len(current) < len(spec.containers)
    if not fresh and not _outdated(spec, observed):
        return ()
    held = observed.copies(desired.snapshot)
    return tuple(sorted(set(spec.update.rollback_volumes) - set(held)))


def _writers(spec: AppSpec, current: dict[str, ContainerState], volumes: Sequence[str]) -> list[ContainerState]:
    """The right containers that may write to any of `volumes`."""
    return [current[c.service] for c in spec.containers if c.service in current and _mounts(c, volumes, writing=True)]


def _mounts(container: ContainerSpec, volumes: Sequence[str], *, writing: bool = False) -> bool:
    mounts = [m for m in container.mounts if m.kind == "volume" and m.source in volumes]
    return any(not m.read_only for m in mounts) if writing else bool(mounts)


def _drop(desired: Desired, observed: Observed) -> list[Step]:
    """Forget copies that nothing goes back to any more."""
    needed = {desired.restore, *((desired.snapshot,) if desired.trial is Trial.VERIFYING else ())}
    return [DropSnapshots(key) for key in sorted({key for key, _ in observed.snapshots} - needed)]


def _put_right(container: ContainerSpec, current: ContainerState) -> Iterable[Step]:
    """Its own name and networks, before any other stops: at a hand-over nobody is without the one or the other."""
    if current.ended_well and container.live.restart in ENDING:
        return
    if current.name != container.name:
        yield RenameContainer(current.id, container.service, container.name)
    yield from mend(container, current)


def _bring_up(
    spec: AppSpec, container: ContainerSpec, current: ContainerState | None, looping: frozenset[str]
) -> Iterable[Step]:
    """Start what does not run and mend what can be mended live. The supervisor's loops are its own affair."""
    if current is not None and current.ended_well and container.live.restart in ENDING:
        return
    if container.service in looping and current is not None:
        return  # but one that was made just now in place of a lost one would wait for a start for ever
    if current is not None and current.serving:
        if current.state is RunState.PAUSED:
            yield StartContainer(container.service, container.spec_hash)
        if current.live != container.live:
            yield UpdateContainer(current.id, container.service, container.live)
        return
    yield from awaits(spec, container.service)
    if current is not None and current.live != container.live:
        yield UpdateContainer(current.id, container.service, container.live)
    yield StartContainer(container.service, container.spec_hash)


def awaits(spec: AppSpec, service: str) -> Iterable[AwaitService]:
    """What must be so before `service` starts. Who gives a release longer to be healthy gives it here, too."""
    wanted = {each.service: each.spec_hash for each in spec.containers}
    for needed, condition in spec.depends_on(service):
        yield AwaitService(needed, wanted[needed], condition, max(AWAIT_S, spec.update.within_s))


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


def _in_the_way(spec: AppSpec, observed: Observed) -> list[ContainerState]:
    """Containers that hold a name which the one made in their place needs: the dead, and the right ones that are bent."""
    wanted = {(c.service, c.spec_hash) for c in spec.containers}
    ending = {c.service for c in spec.containers if c.live.restart in ENDING}
    still = [
        c for c in observed.containers if not (c.ended_well and c.service in ending)
    ]  # what is over is not run again
    bent = {c.id for c in still if (c.service, c.spec) in wanted and not observed.given.issuperset(c.bent)}
    return [c for c in observed.containers if c.state is RunState.DEAD or c.id in bent]


def _to_run_again(spec: AppSpec, observed: Observed) -> list[ContainerState]:
    """Containers that may come to an end: stopped ones would look as if they had, so each start makes them anew."""
    ending = {c.service for c in spec.containers if c.live.restart in ENDING}
    return [c for service, c in _current(spec, observed).items() if service in ending]


def _versions(desired: Desired, spec: AppSpec | None, before: AppSpec | None) -> tuple[AppSpec, ...]:
    """The known versions that containers to be stopped may be of, the likeliest first: on trial it is the old one."""
    known = (before, spec) if desired.trial is Trial.VERIFYING else (spec, before)
    return tuple(each for each in known if each is not None)


def _stop(containers: Iterable[ContainerState], versions: Sequence[AppSpec]) -> list[Step]:
    """Stop dependents before what they depend on, each with the grace of its own version.

    Services that the first version does not have go first, those that none has before all, newest first.
    """
    rank: dict[str, tuple[int, int]] = {}
    by_service: dict[str, int] = {}
    by_spec: dict[tuple[str, str], int] = {}
    for level, version in enumerate(versions):
        for n, each in enumerate(version.containers):
            rank.setdefault(each.service, (-level, -n))
            by_service.setdefault(each.service, each.stop_grace_s)
            by_spec.setdefault((each.service, each.spec_hash), each.stop_grace_s)
    ordered = sorted(containers, key=lambda c: rank.get(c.service, (-len(versions), 0)))
    return [
        StopContainer(c.id, c.service, by_spec.get((c.service, c.spec), by_service.get(c.service, DEFAULT_GRACE_S)))
        for c in ordered
    ]


def _remove(containers: Iterable[ContainerState]) -> list[Step]:
    """Remove outdated containers; the plan has stopped those that served before it comes here."""
    return [RemoveContainer(c.id, c.service) for c in containers]


def take_over(live: Live) -> Live:
    """`live` with the restart policy taken away from the engine: the agent owns the back-off."""
    return replace(live, restart=Restart.NO)
