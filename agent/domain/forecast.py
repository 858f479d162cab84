"""What a decision will bring, told before it is taken: the plan of the trial, its gate, and what follows a pass."""

from __future__ import annotations

from dataclasses import replace

from agent.domain.app import Desired, Trial, Wanted
from agent.domain.container import ContainerSpec, ContainerState, RunState
from agent.domain.instantiate import AppSpec
from agent.domain.planner import Observed, plan
from agent.domain.steps import (
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DropSnapshots,
    RemoveContainer,
    RestoreVolumes,
    SnapshotVolumes,
    StartContainer,
    Step,
    StopContainer,
)
from agent.domain.transition import end_trial


def foresee(desired: Desired, spec: AppSpec, observed: Observed, before: AppSpec | None) -> tuple[str, ...]:
    """Each step in words, as if all went well. `desired` is the decision, `before` as the planner takes it."""
    told: list[str] = []
    while True:
        steps = plan(desired, spec, observed, before)
        told += map(str, steps)
        for step in steps:
            observed = _after(observed, step)
        if any(isinstance(step, RestoreVolumes) for step in steps):
            desired = replace(desired, restore="")
        elif desired.trial is Trial.VERIFYING and desired.wanted is Wanted.RUNNING:
            told.append(_gate(desired, spec))
            desired = end_trial(desired)
        else:
            return tuple(told)


def _gate(desired: Desired, spec: AppSpec) -> str:
    update = spec.update
    otherwise = "go back to the version before" if update.automatic_rollback else "keep it all the same"
    return (
        f"wait until it is healthy, for {update.within_s:g} s, and stays so for {update.stable_s:g} s; "
        f"else {otherwise if desired.previous is not None else 'stop it'}"
    )


def _after(observed: Observed, step: Step) -> Observed:
    """The engine once `step` is done, as far as later plans depend on it."""
    match step:
        case CreateNetwork(network):
            return replace(observed, networks=(*observed.networks, network))
        case CreateVolume(volume):
            return replace(observed, volumes=(*observed.volumes, volume))
        case CreateContainer(wanted):
            return replace(observed, containers=(_made(wanted), *observed.containers))
        case RemoveContainer(id_, _):
            return replace(observed, containers=tuple(c for c in observed.containers if c.id != id_))
        case StartContainer(service, spec_hash):
            started = {c.id for c in observed.containers if (c.service, c.spec) == (service, spec_hash)}
            return _moved(observed, started, RunState.RUNNING)
        case StopContainer(id_, _, _):
            return _moved(observed, {id_}, RunState.EXITED)
        case SnapshotVolumes(key, volumes):
            return replace(observed, snapshots=observed.snapshots | {(key, volume) for volume in volumes})
        case RestoreVolumes(key, _) | DropSnapshots(key):
            return replace(observed, snapshots=frozenset(at for at in observed.snapshots if at[0] != key))
        case _:
            return observed


def _moved(observed: Observed, ids: set[str], state: RunState) -> Observed:
    return replace(
        observed, containers=tuple(replace(c, state=state) if c.id in ids else c for c in observed.containers)
    )


def _made(wanted: ContainerSpec) -> ContainerState:
    return ContainerState(
        id=f"new {wanted.name}",
        name=wanted.name,
        instance=wanted.instance,
        service=wanted.service,
        release=wanted.release,
        spec=wanted.spec_hash,
        image_id="",
        state=RunState.CREATED,
        live=wanted.live,
    )
