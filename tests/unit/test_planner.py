"""The planner's promises, held against an engine in memory that does exactly what the steps say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from agent.domain import steps as kinds
from agent.domain.app import Desired, Trial, Wanted
from agent.domain.command import Origin
from agent.domain.container import ContainerSpec, ContainerState, Live, NetworkSpec, Restart, RunState, VolumeSpec
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
    """Carries steps out in memory and notices when two containers of a service serve at once."""

    containers: dict[str, ContainerState] = field(default_factory=dict)
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    volumes: dict[str, VolumeSpec] = field(default_factory=dict)
    made: int = 0

    def observed(self) -> Observed:
        return Observed(tuple(self.containers.values()), tuple(self.networks.values()), tuple(self.volumes.values()))

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
                self.made += 1
                self.add(wanted, RunState.CREATED)
            case kinds.StartContainer(service, spec_hash):
                found = next(c for c in self.containers.values() if (c.service, c.spec) == (service, spec_hash))
                assert not self.serving(service), f"two containers of {service} would serve"
                self.containers[found.id] = replace(found, state=RunState.RUNNING)
            case kinds.StopContainer(id_, _, _):
                self.containers[id_] = replace(self.containers[id_], state=RunState.EXITED)
            case kinds.RemoveContainer(id_, _):
                assert not self.containers[id_].serving, "a serving container would be removed"
                del self.containers[id_]
            case kinds.UpdateContainer(id_, _, live):
                self.containers[id_] = replace(self.containers[id_], live=live)
            case kinds.AwaitService(service, _, _):
                assert self.serving(service), f"{service} is awaited but was not started"

    def serving(self, service: str) -> list[ContainerState]:
        return [c for c in self.containers.values() if c.service == service and c.serving]

    def add(self, wanted: ContainerSpec, state: RunState, live: Live = LIVE) -> None:
        id_ = f"c{len(self.containers)}-{self.made}-{wanted.image}-{wanted.service}"
        self.containers[id_] = ContainerState(
            id_, wanted.name, "app", wanted.service, "r", wanted.spec_hash, wanted.image, state, live=live
        )

    def run(self, want: Desired, target: AppSpec | None) -> list[kinds.Step]:
        steps = list(plan(want, target, self.observed()))
        for step in steps:
            self.apply(step)
        return steps


def names(steps: list[kinds.Step]) -> list[str]:
    return [type(step).__name__ for step in steps]


def test_a_new_app_is_made_before_it_is_started_in_order_of_dependence() -> None:
    machine = Machine()
    steps = machine.run(desired(), spec("x:1", "y:1", network=True, volume=True))
    assert names(steps) == [
        "CreateNetwork", "CreateVolume", "CreateContainer", "CreateContainer",
        "StartContainer", "AwaitService", "StartContainer",
    ]  # fmt: skip


def test_nothing_is_planned_when_it_is_as_it_shall_be() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", "y:1"))
    assert machine.run(desired(), spec("x:1", "y:1")) == []


def test_what_is_paused_is_started_again_and_nothing_else() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", "y:1"))
    paused = next(c for c in machine.containers.values() if c.service == "b")
    machine.containers[paused.id] = replace(paused, state=RunState.PAUSED)
    assert plan(desired(), spec("x:1", "y:1"), machine.observed()) == (kinds.StartContainer("b", paused.spec),)


def test_an_upgrade_touches_only_the_service_that_changed() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", "y:1"))
    steps = machine.run(desired(), spec("x:1", "y:2"))
    assert {getattr(s, "service", "b") for s in steps} <= {"b", "a"}
    assert not [s for s in steps if isinstance(s, kinds.StopContainer) and s.service == "a"]
    assert [c.image_id for c in machine.containers.values()] == ["x:1", "y:2"]


def test_the_new_container_is_made_before_the_old_one_is_stopped() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    order = names(machine.run(desired(), spec("x:2")))
    assert order == ["CreateContainer", "StopContainer", "StartContainer", "RemoveContainer"]


def test_on_trial_the_old_container_is_kept_stopped_and_going_back_starts_it_again() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    old_id = next(iter(machine.containers))
    machine.run(desired(trial=Trial.VERIFYING), spec("x:2"))
    assert machine.containers[old_id].state is RunState.EXITED
    machine.run(desired(), spec("x:1"))
    assert [c.id for c in machine.containers.values() if c.serving] == [old_id]
    assert len(machine.containers) == 1


def test_changed_limits_are_mended_without_a_restart() -> None:
    machine = Machine()
    machine.add(spec("x:1").containers[0], RunState.RUNNING, live=Live(mem_bytes=1))
    assert names(machine.run(desired(), spec("x:1"))) == ["UpdateContainer"]


def test_a_looping_service_whose_container_was_removed_gets_one_that_is_started() -> None:
    observed = replace(Machine().observed(), looping=frozenset({"a"}))
    assert names(list(plan(desired(), spec("1"), observed))) == ["CreateContainer", "StartContainer"]


def test_a_looping_service_is_left_to_its_supervisor() -> None:
    machine = Machine()
    machine.add(spec("x:1").containers[0], RunState.EXITED)
    observed = replace(machine.observed(), looping=frozenset({"a"}))
    assert plan(desired(), spec("x:1"), observed) == ()


def test_removal_keeps_volumes_and_purging_does_not() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", network=True, volume=True))
    machine.run(desired(Wanted.ABSENT), None)
    assert (machine.containers, machine.networks, list(machine.volumes)) == ({}, {}, ["vol"])
    machine.run(desired(Wanted.PURGED), None)
    assert machine.volumes == {}


IMAGES = st.sampled_from(["x:1", "x:2", "x:3"])
SPECS = st.lists(IMAGES, min_size=1, max_size=3).map(lambda images: spec(*images))
STATES = st.sampled_from([RunState.CREATED, RunState.RUNNING, RunState.EXITED, RunState.DEAD, RunState.RESTARTING])


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Any leftovers of interrupted plans: per service one container a spec (names are unique), one serving at most."""
    machine = Machine()
    for service in "abc":
        served = False
        for image in draw(st.lists(IMAGES, max_size=3, unique=True)):
            state = draw(STATES)
            if state in (RunState.RUNNING, RunState.RESTARTING):
                state = RunState.EXITED if served else state
                served = served or state is not RunState.EXITED
            machine.add(container(service, image), state)
    return machine


@given(machines(), SPECS, st.sampled_from(list(Trial)))
def test_from_any_leftovers_one_pass_brings_exactly_the_wanted_containers_to_serve(
    machine: Machine, target: AppSpec, trial: Trial
) -> None:
    machine.run(desired(trial=trial), target)
    serving = {(c.service, c.spec) for c in machine.containers.values() if c.serving}
    assert serving == {(c.service, c.spec_hash) for c in target.containers}
    assert machine.run(desired(trial=trial), target) == []
    machine.run(desired(), target)
    assert len(machine.containers) == len(target.containers)


@given(machines(), SPECS, st.integers(0, 12), SPECS)
def test_cut_anywhere_and_planned_again_it_still_converges(
    machine: Machine, first: AppSpec, cut: int, second: AppSpec
) -> None:
    for step in plan(desired(trial=Trial.VERIFYING), first, machine.observed())[:cut]:
        machine.apply(step)
    machine.run(desired(), second)
    assert {(c.service, c.spec) for c in machine.containers.values()} == {
        (c.service, c.spec_hash) for c in second.containers
    }


@given(machines(), SPECS)
def test_stopped_means_that_nothing_serves(machine: Machine, target: AppSpec) -> None:
    machine.run(desired(Wanted.STOPPED), target)
    assert not [c for c in machine.containers.values() if c.serving]
    assert machine.run(desired(Wanted.STOPPED), target) == []


def test_what_may_end_and_ended_well_is_left_alone_and_made_anew_when_the_app_is_started_again() -> None:
    machine, ends = Machine(), replace(LIVE, restart=Restart.ON_FAILURE)
    target = spec("x:1", "y:1")
    target = replace(target, containers=(replace(target.containers[0], live=ends), target.containers[1]))
    machine.run(desired(), target)
    first = next(c for c in machine.containers.values() if c.service == "a")
    machine.containers[first.id] = replace(first, state=RunState.EXITED, live=ends)
    assert machine.run(desired(), target) == []
    machine.containers[first.id] = replace(first, state=RunState.EXITED, exit_code=1, live=ends)
    assert names(machine.run(desired(), target)) == ["StartContainer"]
    machine.run(desired(Wanted.STOPPED), target)
    assert [c.service for c in machine.containers.values()] == ["b"]
    assert machine.run(desired(Wanted.STOPPED), target) == []
    machine.run(desired(), target)
    assert [c.service for c in machine.containers.values() if c.serving] == ["b", "a"]
