"""Who is found under which name: a version on trial beside the proven one is not, until it has proved itself."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.domain import steps as kinds
from agent.domain.app import Desired, Trial, Wanted
from agent.domain.container import Attachment, ContainerState, RunState
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Strategy, Update
from agent.domain.planner import plan
from agent.domain.wiring import hush
from tests.unit.machine import Machine, desired, spec

ON_TRIAL = desired(trial=Trial.VERIFYING)


def connected(*images: str) -> AppSpec:
    """Start-first, each service on `net` under its name and `also-<name>`, each container called by what it is."""
    bare = spec(*images, network=True)
    containers = tuple(
        replace(
            each,
            name=f"ec-app-{each.service}-{each.spec_hash[:8]}",
            networks=(Attachment("net", (f"also-{each.service}", each.service)),),
        )
        for each in bare.containers
    )
    return replace(bare, containers=containers, update=Update(strategy=Strategy.START_FIRST))


LINKED = {"a": "x:2", "also-a": "x:2", "b": "y:2", "also-b": "y:2"}
OLD, NEW = connected("x:1", "y:1", "same:1"), connected("x:2", "y:2", "same:1")


def installed() -> Machine:
    machine = Machine(hand_over=True)
    machine.run(desired(), OLD)
    return machine


def named(machine: Machine, name: str) -> set[str]:
    """The images of the containers that answer to `name`."""
    return {each.image_id for each in machine.containers.values() if each.serving and name in _names(each)}


def _names(container: ContainerState) -> set[str]:
    return {name for joined in container.attachments or () for name in joined.aliases}


def steps_of(machine: Machine, want: Desired, new: AppSpec = NEW) -> tuple[kinds.Step, ...]:
    return plan(want, new, machine.observed(), OLD)


def go(machine: Machine, want: Desired, cut: int | None = None, new: AppSpec = NEW) -> None:
    """Carry out one plan, or its beginning; a name that is served is served at every moment."""
    for step in steps_of(machine, want, new)[:cut]:
        machine.apply(step)
        assert all(named(machine, name) for name in "abc"), f"a name is lost by: {step}"


def test_a_version_on_trial_has_no_names_and_finds_its_own_by_links() -> None:
    hushed = hush(NEW, OLD)
    first, second, third = hushed.containers
    names = dict.fromkeys(("a", "also-a"), first.name) | dict.fromkeys(("b", "also-b"), second.name)
    quiet = (Attachment("net", (), tuple(sorted(names.items()))),)
    assert (first.joins, second.joins) == (quiet, quiet)
    assert third.joins == NEW.containers[2].networks, "what both versions have in common serves both"
    assert [each.spec_hash for each in hushed.containers] == [each.spec_hash for each in NEW.containers]


def test_links_reach_only_who_is_on_the_same_network() -> None:
    apart = replace(NEW.containers[1], networks=(Attachment("other", ("b",)),))
    hushed = hush(replace(NEW, containers=(NEW.containers[0], apart)), OLD)
    assert [dict(each.joins[0].links).keys() for each in hushed.containers] == [{"a", "also-a"}, {"b"}]


def test_without_a_network_there_is_nothing_to_keep_quiet() -> None:
    bare = spec("x:2")
    assert hush(bare, spec("x:1")) == bare


@given(st.lists(st.integers(0, 12), max_size=4), st.lists(st.integers(0, 12), max_size=4))
def test_wherever_it_is_cut_off_only_who_has_proved_itself_is_found_by_name(trial: list[int], after: list[int]) -> None:
    machine = installed()
    for cut in (*trial, None):
        go(machine, ON_TRIAL, cut)
        assert (named(machine, "a"), named(machine, "also-b"), named(machine, "c")) == ({"x:1"}, {"y:1"}, {"same:1"})
    assert {each.image_id for each in machine.serving("a")} == {"x:1", "x:2"}
    for cut in (*after, None, None):
        go(machine, desired(), cut)
    assert (named(machine, "a"), named(machine, "also-b"), named(machine, "c")) == ({"x:2"}, {"y:2"}, {"same:1"})
    assert steps_of(machine, desired()) == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from((("x:2", "y:1"), ("x:2", "y:3"), ("x:3", "y:2"), ("x:2", "y:2"))), st.integers(0, 12)
        ),
        max_size=4,
    )
)
def test_each_version_on_trial_finds_its_own_services_whatever_was_on_trial_before(
    tried: list[tuple[tuple[str, str], int]],
) -> None:
    machine = installed()
    for images, cut in tried:
        go(machine, ON_TRIAL, cut, connected(*images, "same:1"))
    go(machine, ON_TRIAL)
    go(machine, ON_TRIAL)
    assert (named(machine, "a"), named(machine, "b")) == ({"x:1"}, {"y:1"})
    fresh = {each.name: each for each in machine.containers.values() if each.image_id in ("x:2", "y:2")}
    for each in fresh.values():
        links = dict((each.attachments or ())[0].links)
        assert {name: fresh[other].image_id for name, other in links.items()} == LINKED
    go(machine, desired())
    go(machine, desired())
    assert (named(machine, "a"), named(machine, "b")) == ({"x:2"}, {"y:2"})
    assert steps_of(machine, desired()) == ()


def test_at_the_hand_over_it_keeps_its_address() -> None:
    machine = installed()
    go(machine, ON_TRIAL)
    (new,) = [each for each in machine.serving("a") if each.image_id == "x:2"]
    machine.plug(new.id, replace((new.attachments or ())[0], address="10.213.0.9"))
    (back,) = [
        s for s in steps_of(machine, desired()) if isinstance(s, kinds.ConnectContainer) and s.container_id == new.id
    ]
    assert back.networks == (replace(NEW.containers[0].networks[0], address="10.213.0.9"),)


def test_where_the_proven_version_does_not_serve_the_new_one_has_its_names_at_once() -> None:
    machine = installed()
    for each in list(machine.containers.values()):
        if each.service != "c":
            machine.containers[each.id] = replace(each, state=RunState.EXITED)
    for step in steps_of(machine, ON_TRIAL):
        machine.apply(step)
    assert (named(machine, "a"), named(machine, "b")) == ({"x:2"}, {"y:2"})


def test_one_that_was_stopped_on_trial_has_its_names_when_it_is_started_alone() -> None:
    machine = installed()
    go(machine, ON_TRIAL)
    for want in (replace(ON_TRIAL, wanted=Wanted.STOPPED), ON_TRIAL):
        for step in steps_of(machine, want):
            machine.apply(step)
    assert (named(machine, "a"), named(machine, "b"), named(machine, "c")) == ({"x:2"}, {"y:2"}, {"same:1"})
