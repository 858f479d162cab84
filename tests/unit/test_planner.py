"""The planner's promises, held against an engine in memory that does exactly what the steps say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import steps as kinds
from agent.domain.app import Trial, Wanted
from agent.domain.container import Attachment, Live, Restart, RunState
from agent.domain.instantiate import AppSpec
from agent.domain.planner import learn, plan
from tests.unit.machine import LIVE, Machine, container, desired, spec


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


@pytest.mark.parametrize("live", [replace(LIVE, mem_bytes=1), replace(LIVE, swap_bytes=1), replace(LIVE, pids=1)])
def test_changed_limits_are_mended_without_a_restart(live: Live) -> None:
    machine = Machine()
    machine.add(spec("x:1").containers[0], RunState.RUNNING, live=live)
    (only,) = machine.containers
    assert machine.run(desired(), spec("x:1")) == [kinds.UpdateContainer(only, "a", LIVE)]
    assert machine.run(desired(), spec("x:1")) == []


def test_a_container_with_another_name_gets_its_own_back_without_a_restart() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    ((id_, named),) = machine.containers.items()
    machine.containers[id_] = replace(named, name="strange")
    assert names(machine.run(desired(), spec("x:1"))) == ["RenameContainer"]
    assert machine.containers == {id_: named}
    assert machine.run(desired(), spec("x:1")) == []


@pytest.mark.parametrize("trial", [Trial.PROVEN, Trial.VERIFYING])
def test_a_container_with_limits_that_no_update_takes_back_is_made_anew_and_no_other(trial: Trial) -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", "y:1"))
    old = machine.bend("b")
    steps = machine.run(desired(trial=trial), spec("x:1", "y:1"))
    assert names(steps) == ["StopContainer", "RemoveContainer", "CreateContainer", "AwaitService", "StartContainer"]
    (new,) = machine.serving("b")
    assert (new.bent, new.spec) == ((), old.spec)
    assert len(machine.serving("a")) == 1
    assert machine.run(desired(trial=trial), spec("x:1", "y:1")) == []


def test_what_a_container_made_anew_is_given_again_is_the_engines_way_and_no_reason_to_make_it_anew_once_more() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", "y:1"))
    machine.bend("a", "CpuShares=1024", "CpusetCpus=0")
    before = machine.observed()
    assert learn(None, before) == frozenset() == learn(before, before), "seen once, or on one container only"
    machine.run(desired(), spec("x:1", "y:1"))
    machine.bend("a", "CpuShares=1024")
    machine.bend("b", "CpuShares=1024")
    now = machine.observed()
    given = learn(before, now)
    assert given == {"CpuShares=1024"}, "b was there all the time, and a lost its set of CPUs"
    assert list(plan(desired(), spec("x:1", "y:1"), replace(now, given=given))) == []
    machine.bend("b", "CpuShares=1024", "CpusetCpus=0")
    again = names(list(plan(desired(), spec("x:1", "y:1"), replace(machine.observed(), given=given))))
    assert again == ["StopContainer", "RemoveContainer", "CreateContainer", "AwaitService", "StartContainer"]


def test_what_another_version_is_given_says_nothing_of_the_engine() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    machine.bend("a")
    before = machine.observed()
    machine.run(desired(), spec("x:2"))
    machine.bend("a")
    assert learn(before, machine.observed()) == frozenset()


def test_a_bent_service_that_loops_is_made_anew_too() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    machine.bend("a")
    observed = replace(machine.observed(), looping=frozenset({"a"}))
    steps = names(list(plan(desired(), spec("x:1"), observed)))
    assert steps == ["StopContainer", "RemoveContainer", "CreateContainer", "StartContainer"]


def test_a_bent_container_of_a_stopped_app_is_let_be_until_it_is_started() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    machine.run(desired(wanted=Wanted.STOPPED), spec("x:1"))
    machine.bend("a")
    assert machine.run(desired(wanted=Wanted.STOPPED), spec("x:1")) == []
    assert names(machine.run(desired(), spec("x:1"))) == ["RemoveContainer", "CreateContainer", "StartContainer"]


def test_a_bent_old_container_waits_out_the_trial_and_is_made_anew_on_going_back() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    old = machine.bend("a")
    machine.run(desired(trial=Trial.VERIFYING), spec("x:2"))
    assert not machine.containers[old.id].serving
    machine.run(desired(), spec("x:1"))
    assert [(c.image_id, c.bent, c.serving) for c in machine.containers.values()] == [("x:1", (), True)]


def connected(*images: str) -> AppSpec:
    """As `spec`, each service on the network `net` under its name."""
    bare = spec(*images, network=True)
    return replace(
        bare,
        containers=tuple(replace(each, networks=(Attachment("net", (each.service,)),)) for each in bare.containers),
    )


def test_a_running_container_comes_back_to_its_network_and_off_any_other_without_a_restart() -> None:
    machine = Machine()
    machine.run(desired(), connected("x:1"))
    (id_,) = machine.containers
    machine.plug(id_, Attachment("bridge"))
    assert plan(desired(), connected("x:1"), machine.observed()) == (
        kinds.ConnectContainer(id_, "a", (Attachment("net", ("a",)),)),
        kinds.DisconnectContainer(id_, "a", ("bridge",)),
    )


def test_what_has_no_network_is_left_without_and_taken_off_any() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1"))
    (id_,) = machine.containers
    assert plan(desired(), spec("x:1"), machine.observed()) == ()
    machine.plug(id_, Attachment("bridge"))
    assert plan(desired(), spec("x:1"), machine.observed()) == (kinds.DisconnectContainer(id_, "a", ("bridge",)),)


def test_a_container_whose_creation_was_interrupted_is_on_its_networks_before_it_starts() -> None:
    machine = Machine()
    machine.add(connected("x:1").containers[0], RunState.CREATED)
    (id_,) = machine.containers
    machine.plug(id_)
    assert names(machine.run(desired(), connected("x:1"))) == ["CreateNetwork", "ConnectContainer", "StartContainer"]


def test_networks_are_mended_of_a_looping_service_too() -> None:
    machine = Machine()
    machine.run(desired(), connected("x:1"))
    machine.plug(next(iter(machine.containers)))
    observed = replace(machine.observed(), looping=frozenset({"a"}))
    assert names(list(plan(desired(), connected("x:1"), observed))) == ["ConnectContainer"]


def test_a_looping_service_whose_container_was_removed_gets_one_that_is_started() -> None:
    observed = replace(Machine().observed(), looping=frozenset({"a"}))
    assert names(list(plan(desired(), spec("1"), observed))) == ["CreateContainer", "StartContainer"]


def test_a_looping_service_is_left_to_its_supervisor() -> None:
    machine = Machine()
    machine.add(spec("x:1").containers[0], RunState.EXITED)
    observed = replace(machine.observed(), looping=frozenset({"a"}))
    assert plan(desired(), spec("x:1"), observed) == ()


def lost(steps: Iterable[kinds.Step]) -> list[bool]:
    return [step.lost for step in steps if isinstance(step, kinds.CreateVolume)]


def test_only_a_volume_that_a_proven_version_used_is_lost_when_it_is_not_there() -> None:
    machine, wanted, on_trial = Machine(), spec("x:1", volume=True), desired(trial=Trial.VERIFYING)
    assert lost(machine.run(on_trial, wanted)) == [False], "a first version makes it"
    machine.volumes.clear()
    assert lost(plan(on_trial, wanted, machine.observed())) == [False], "nothing is proven"
    assert lost(plan(desired(), wanted, machine.observed())) == [True]
    assert lost(plan(on_trial, wanted, machine.observed(), wanted)) == [True], "the version before used it"
    assert lost(plan(on_trial, wanted, machine.observed(), spec("x:1"))) == [False], "the version before had none"
    held = replace(machine.observed(), snapshots=frozenset({("k", "vol")}))
    assert lost(plan(replace(desired(), restore="k"), wanted, held)) == [False], "the data come back"


def test_removal_keeps_volumes_and_purging_does_not() -> None:
    machine = Machine()
    machine.run(desired(), spec("x:1", network=True, volume=True))
    machine.run(desired(Wanted.ABSENT), None)
    assert (machine.containers, machine.networks, list(machine.volumes)) == ({}, {}, ["vol"])
    machine.run(desired(Wanted.PURGED), None)
    assert machine.volumes == {}


def patient(wanted: AppSpec, **grace_s: int) -> AppSpec:
    """`wanted` with these seconds of grace for its services."""
    containers = (replace(each, stop_grace_s=grace_s.get(each.service, 10)) for each in wanted.containers)
    return replace(wanted, containers=tuple(containers))


def stops(steps: tuple[kinds.Step, ...]) -> list[tuple[str, int]]:
    return [(step.service, step.grace_s) for step in steps if isinstance(step, kinds.StopContainer)]


@pytest.mark.parametrize("wanted", [Wanted.ABSENT, Wanted.PURGED])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_removal_stops_dependents_first_each_with_its_own_grace_however_the_engine_lists_them(
    wanted: Wanted, order: tuple[int, ...]
) -> None:
    machine, target = Machine(), patient(spec("x:1", "y:1", "z:1"), a=90, c=1)
    machine.run(desired(), target)
    listed = machine.observed()
    listed = replace(listed, containers=tuple(listed.containers[n] for n in order))
    assert stops(plan(desired(wanted), target, listed)) == [("c", 1), ("b", 10), ("a", 90)]


def test_what_nobody_knows_is_stopped_as_it_is_listed_newest_first() -> None:
    machine = Machine()
    machine.run(desired(), patient(spec("x:1", "y:1", "z:1"), a=90))
    assert stops(plan(desired(Wanted.ABSENT), None, machine.observed())) == [("c", 10), ("b", 10), ("a", 10)]


def test_removal_in_a_trial_stops_old_and_new_as_their_own_versions_say() -> None:
    machine, old, new = Machine(), patient(spec("x:1", "y:1"), a=90, b=40), patient(spec("x:2", "y:1"), a=2, b=40)
    machine.run(desired(), old)
    machine.add(new.containers[0], RunState.RUNNING)
    want = desired(Wanted.ABSENT, Trial.VERIFYING)
    steps = plan(want, new, machine.observed(), old)
    assert stops(steps)[0] == ("b", 40)
    assert sorted(stops(steps)[1:]) == [("a", 2), ("a", 90)]


@pytest.mark.parametrize("trial", list(Trial))
def test_an_upgrade_stops_the_old_containers_with_their_own_grace_and_those_without_a_successor_first(
    trial: Trial,
) -> None:
    machine, old = Machine(), patient(spec("x:1", "y:1", "z:1"), a=90, b=45, c=30)
    machine.run(desired(), old)
    new = patient(spec("x:2"), a=3)
    assert stops(plan(desired(trial=trial), new, machine.observed(), old)) == [("c", 30), ("b", 45), ("a", 90)]


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
            if draw(st.booleans()):
                machine.bend(service)
    return machine


@given(machines(), SPECS, st.sampled_from(list(Trial)))
def test_from_any_leftovers_one_pass_brings_exactly_the_wanted_containers_to_serve(
    machine: Machine, target: AppSpec, trial: Trial
) -> None:
    machine.run(desired(trial=trial), target)
    serving = {(c.service, c.spec) for c in machine.containers.values() if c.serving}
    assert serving == {(c.service, c.spec_hash) for c in target.containers}
    assert not [c for c in machine.containers.values() if c.serving and c.bent]
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


@given(
    machines(),
    st.lists(IMAGES, min_size=1, max_size=3).map(lambda images: connected(*images)),
    st.lists(st.dictionaries(st.sampled_from(["net", "alien", "none"]), st.sampled_from([(), ("a",)])), max_size=9),
    st.integers(0, 12),
)
def test_whatever_it_was_plugged_into_a_container_that_serves_is_on_its_own_networks_alone_under_its_names(
    machine: Machine, target: AppSpec, plugged: list[dict[str, tuple[str, ...]]], cut: int
) -> None:
    for wanted, state in zip(target.containers, (RunState.RUNNING, RunState.CREATED, RunState.EXITED), strict=False):
        if not machine.serving(wanted.service):
            machine.add(wanted, state)
    for id_, networks in zip(machine.containers, plugged, strict=False):
        machine.plug(id_, *(Attachment(name, names) for name, names in networks.items()))
    for step in plan(desired(), target, machine.observed())[:cut]:
        machine.apply(step)
    machine.run(desired(), target)
    assert {c.networks for c in machine.containers.values()} <= {("net",), ("net", "none")}
    for each in machine.containers.values():
        named = next(joined.aliases for joined in each.attachments or () if joined.network == "net")
        assert each.service in named
    assert machine.run(desired(), target) == []


@given(machines(), SPECS, st.permutations("abc"), st.sampled_from([Wanted.ABSENT, Wanted.PURGED, Wanted.STOPPED]))
def test_whatever_is_left_and_however_it_is_listed_nothing_is_stopped_before_what_depends_on_it(
    machine: Machine, target: AppSpec, listed: list[str], wanted: Wanted
) -> None:
    found = machine.observed()
    found = replace(found, containers=tuple(sorted(found.containers, key=lambda c: listed.index(c.service))))
    steps = plan(desired(wanted), target, found)
    order = [service for service, _ in stops(steps)]
    assert sorted(order) == sorted(c.service for c in found.containers if c.serving)
    known = [each.service for each in target.containers]
    unknown = sorted({*order} - {*known}, key=listed.index)
    assert order == [*unknown, *(service for service in known[::-1] if service in order)]


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
    machine.bend("a")  # nor is it run again for a limit that somebody set by hand
    assert machine.run(desired(), target) == []
    machine.containers[first.id] = replace(first, state=RunState.EXITED, exit_code=1, live=ends)
    assert names(machine.run(desired(), target)) == ["StartContainer"]
    machine.run(desired(Wanted.STOPPED), target)
    assert [c.service for c in machine.containers.values()] == ["b"]
    assert machine.run(desired(Wanted.STOPPED), target) == []
    machine.run(desired(), target)
    assert [c.service for c in machine.containers.values() if c.serving] == ["b", "a"]
