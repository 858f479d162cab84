"""Updates, roll-backs, stops and kills in any order: the invariants hold at every step, and it always converges.

Decisions are the real ones (`agent.domain.transition`), plans the real ones, the engine is one in memory. A kill is a plan
that is cut off anywhere, also between the last step and the decision that would follow it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain import transition
from agent.domain.app import Desired, Trial, Version, Wanted
from agent.domain.command import Job, JobState, Origin
from agent.domain.container import Mount, VolumeSpec
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Strategy, Update
from agent.domain.planner import plan
from agent.domain.steps import RestoreVolumes
from tests.unit.machine import Machine, spec

KEEP = 2
ROUNDS = 6


def make_spec(release: str, images: list[str], update: Update) -> AppSpec:
    """Services a, b ...; `a` writes to the volume, `b` reads it. Images of release r are named after it, or shared."""
    made = spec(*images, volume=True)
    mounts = (Mount("volume", "vol", "/data"), Mount("volume", "vol", "/data", read_only=True))
    containers = tuple(
        replace(each, release=release, mounts=(mounts[n],)) if n < 2 else replace(each, release=release)
        for n, each in enumerate(made.containers)
    )
    return replace(
        made, release=release, containers=containers, volumes=(VolumeSpec("vol", "app", "g"),), update=update
    )


UPDATES = {
    "plain": Update(),
    "data": Update(rollback_volumes=("vol",)),
    "first": Update(strategy=Strategy.START_FIRST),
}
RELEASES = {
    f"{kind}-{n}": make_spec(f"{kind}-{n}", [f"{kind}:{n}", *others], update)
    for kind, update in UPDATES.items()
    for n, others in ((1, ["same:1"]), (2, ["same:1", "more:1"]), (3, ["other:3"]))
}


@dataclass
class Gateway:
    """One instance through its life."""

    machine: Machine = field(default_factory=Machine)
    desired: Desired = field(default_factory=lambda: Desired("app", Origin.LOCAL, Wanted.RUNNING))
    jobs: int = 0
    before_trial: tuple[str, ...] = ()

    def adopt(self, release: str) -> None:
        self.jobs += 1
        job = Job(f"job-{self.jobs}", "upgrade", "app", "", JobState.DOWNLOADING)
        was_on_trial = self.desired.trial is Trial.VERIFYING
        current = self.desired.current
        changes = current is None or RELEASES[current.release].containers != RELEASES[release].containers
        self.desired, _ = transition.adopt(self.desired, job, Version(release), needs_trial=changes, keep=KEEP)
        if not was_on_trial and not self.desired.restore:
            self.before_trial = self.machine.data.get("vol", ())

    def fail(self) -> None:
        if self.desired.trial is Trial.VERIFYING and self.desired.wanted is Wanted.RUNNING:
            self.desired, _ = transition.fall_back(self.desired, None, "it is ill", automatic=True)

    def prove(self) -> None:
        if self.desired.trial is Trial.VERIFYING and self.desired.wanted is Wanted.RUNNING and not self.plan():
            self.desired = transition.prove(self.desired, keep=KEEP)

    def plan(self) -> tuple[Any, ...]:
        current = self.desired.current
        if current is None:
            return ()
        back = self.desired.previous
        before = RELEASES[back.release] if back and self.desired.trial is Trial.VERIFYING else None
        return plan(self.desired, RELEASES[current.release], self.machine.observed(), before)

    def reconcile(self, cut: int | None = None) -> bool:
        """One pass, killed after `cut` steps; True when nothing was left to do."""
        steps = self.plan()
        current = self.desired.current
        strategy = RELEASES[current.release].update.strategy if current else Strategy.STOP_FIRST
        self.machine.hand_over = self.desired.trial is Trial.VERIFYING and strategy is Strategy.START_FIRST
        for step in steps[:cut]:
            self.machine.apply(step)
        if cut is not None and cut <= len(steps):
            return False
        if any(isinstance(step, RestoreVolumes) for step in steps):
            self.desired = replace(self.desired, restore="")
        elif self.desired.trial is not Trial.VERIFYING or self.desired.wanted is not Wanted.RUNNING:
            self.desired, _ = transition.conclude(self.desired, None)
        return not steps

    def converge(self) -> None:
        for _ in range(ROUNDS):
            if self.reconcile():
                return
        raise AssertionError(f"no end after {ROUNDS} rounds: {self.plan()}")


ACTIONS = st.one_of(
    st.tuples(st.just("adopt"), st.sampled_from(sorted(RELEASES))),
    st.tuples(st.just("cut"), st.integers(0, 12)),
    st.sampled_from([("converge", None), ("prove", None), ("fail", None), ("stop", None), ("start", None)]),
)


def act(gateway: Gateway, action: tuple[str, Any]) -> None:
    match action:
        case ("adopt", release):
            gateway.adopt(release)
        case ("cut", cut):
            gateway.reconcile(cut)
        case ("converge", _):
            gateway.converge()
        case ("stop", _):
            gateway.desired = replace(gateway.desired, wanted=Wanted.STOPPED, hold="stopped by test")
        case ("start", _):
            gateway.desired = replace(gateway.desired, wanted=Wanted.RUNNING, hold="")
        case ("prove", _):
            gateway.prove()
        case ("fail", _):
            gateway.fail()


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=14))
def test_whatever_happens_in_whatever_order_it_ends_as_wanted_with_nothing_left_over(actions: list[Any]) -> None:
    gateway = Gateway()
    for action in actions:
        act(gateway, action)
    gateway.converge()
    gateway.prove()
    gateway.converge()
    current, machine = gateway.desired.current, gateway.machine
    wanted = gateway.desired.wanted is Wanted.RUNNING and current is not None
    target = {(c.service, c.spec_hash) for c in RELEASES[current.release].containers} if wanted and current else set()
    assert {(c.service, c.spec) for c in machine.containers.values() if c.serving} == target
    if gateway.desired.trial is Trial.PROVEN:
        assert machine.copies == {}
        assert len(machine.containers) <= 3
        if wanted:
            assert len(machine.containers) == len(target)


@settings(max_examples=300)
@given(
    st.sampled_from([r for r in RELEASES if r.startswith("data")]),
    st.sampled_from([r for r in RELEASES if r.startswith("data")]),
    st.lists(st.integers(0, 12), max_size=4),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_a_version_that_fails_leaves_no_trace_in_the_data_wherever_it_was_killed(
    old: str, new: str, before: list[int], after: list[int]
) -> None:
    gateway = Gateway()
    gateway.adopt(old)
    gateway.converge()
    gateway.prove()
    gateway.converge()
    data = gateway.machine.data["vol"]
    gateway.adopt(new)
    for cut in before:
        gateway.reconcile(cut)
    gateway.fail()
    for cut in after:
        gateway.reconcile(cut)
    gateway.converge()
    written = gateway.machine.data["vol"]
    assert written[: len(data)] == data
    assert set(written) <= {c.image for c in RELEASES[old].containers}
    assert gateway.desired.current == Version(old)


@given(
    st.lists(
        st.tuples(st.sampled_from([r for r in RELEASES if r.startswith("data")]), st.integers(0, 12)),
        min_size=1,
        max_size=4,
    )
)
def test_trials_that_replace_each_other_go_back_to_the_data_of_the_proven_version(
    trials: list[tuple[str, int]],
) -> None:
    gateway = Gateway()
    gateway.adopt("data-1")
    gateway.converge()
    gateway.prove()
    gateway.converge()
    data = gateway.machine.data["vol"]
    for release, cut in [*trials, ("data-2", 99)]:
        gateway.adopt(release)
        gateway.reconcile(cut)
    assert gateway.desired.trial is Trial.VERIFYING
    gateway.fail()
    gateway.converge()
    assert gateway.desired.current == Version("data-1")
    written = gateway.machine.data["vol"]
    assert written[: len(data)] == data
    assert set(written) <= {c.image for c in RELEASES["data-1"].containers}


def test_a_start_first_release_serves_beside_the_proven_one_until_it_has_proved_itself() -> None:
    gateway = Gateway()
    for release in ("first-1", "first-3"):
        gateway.adopt(release)
        gateway.converge()
        if release == "first-1":
            gateway.prove()
            gateway.converge()
    assert sorted(c.image_id for c in gateway.machine.serving("a")) == ["first:1", "first:3"]
    gateway.adopt("first-2")
    gateway.converge()
    assert sorted(c.image_id for c in gateway.machine.serving("a")) == ["first:1", "first:2"]
    old = {c.id for c in gateway.machine.containers.values() if c.image_id == "first:1"}
    gateway.fail()
    gateway.converge()
    assert {c.id for c in gateway.machine.serving("a")} == old


def test_services_that_did_not_change_keep_their_containers_through_upgrade_and_roll_back() -> None:
    gateway = Gateway()
    gateway.adopt("plain-1")
    gateway.converge()
    gateway.prove()
    kept = [c for c in gateway.machine.containers.values() if c.service == "b"]
    gateway.adopt("plain-2")
    gateway.converge()
    assert [c for c in gateway.machine.containers.values() if c.service == "b"] == kept
    gateway.fail()
    gateway.converge()
    assert [c for c in gateway.machine.containers.values() if c.service == "b"] == kept


def test_limits_alone_change_live_and_copy_no_data() -> None:
    gateway = Gateway()
    gateway.adopt("data-1")
    gateway.converge()
    gateway.prove()
    gateway.converge()
    before = gateway.machine.containers
    RELEASES["limits"] = replace(
        RELEASES["data-1"],
        release="limits",
        containers=tuple(replace(c, live=replace(c.live, mem_bytes=128)) for c in RELEASES["data-1"].containers),
    )
    gateway.adopt("limits")
    names = [type(step).__name__ for step in gateway.plan()]
    assert (names, gateway.desired.trial) == (["UpdateContainer", "UpdateContainer"], Trial.VERIFYING)
    gateway.converge()
    assert gateway.machine.containers.keys() == before.keys()
    del RELEASES["limits"]
