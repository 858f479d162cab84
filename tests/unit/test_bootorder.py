"""What came up before what it depends on is found, and only that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.bootorder import mend_order, read_started
from agent.domain.container import ContainerSpec, ContainerState, Healthcheck, RunState
from agent.domain.instantiate import AppSpec
from agent.domain.steps import AwaitService, StartContainer, Step, StopContainer

PROBE = Healthcheck(("CMD", "true"), interval_s=10)


def spec(dependencies: dict[str, dict[str, str]], probed: frozenset[str] = frozenset()) -> AppSpec:
    """Services in the order given; a probe for those in `probed`."""
    containers = tuple(
        ContainerSpec(f"n-{name}", "app", name, "r", "i", "gw", healthcheck=PROBE if name in probed else None)
        for name in dependencies
    )
    needs = tuple((name, tuple(needed.items())) for name, needed in dependencies.items() if needed)
    return AppSpec("app", "r", "1", containers, needs)


def at(seconds: float) -> str:
    return f"2026-01-01T00:00:{int(seconds):02d}.{round(seconds % 1 * 1e9):09d}Z"


def up(app: AppSpec, **started: float) -> list[ContainerState]:
    by_service = {c.service: c for c in app.containers}
    return [
        ContainerState(f"id-{n}", "", "app", n, "r", by_service[n].spec_hash, "i", RunState.RUNNING, started_at=at(s))
        for n, s in started.items()
    ]


def mended(app: AppSpec, containers: list[ContainerState], back: set[str] | None = None) -> list[str]:
    ids = frozenset(c.id for c in containers) if back is None else frozenset(f"id-{n}" for n in back)
    return [said for step in mend_order(app, containers, ids) if (said := say(step))]


def say(step: Step) -> str:
    match step:
        case StopContainer(_, service, _):
            return f"stop {service}"
        case StartContainer(service, _):
            return f"start {service}"
        case AwaitService(service, _, _):
            return f"await {service}"
    return ""


CHAIN = {"db": {}, "api": {"db": "started"}, "web": {"api": "started"}}


def test_what_is_in_order_is_let_be() -> None:
    app = spec(CHAIN)
    assert mended(app, up(app, db=1, api=2, web=3)) == []


def test_who_came_before_what_it_needs_is_stopped_and_started_after_it_with_all_who_need_it() -> None:
    app = spec(CHAIN)
    assert mended(app, up(app, api=1, db=2, web=3)) == (
        ["stop web", "stop api", "await db", "start api", "await api", "start web"]
    )
    assert mended(app, up(app, db=1, web=2, api=3)) == ["stop web", "await api", "start web"]


def test_one_that_needed_a_healthy_one_cannot_have_waited_if_it_came_before_the_first_probe() -> None:
    app = spec({"db": {}, "api": {"db": "healthy"}}, frozenset({"db"}))
    assert mended(app, up(app, db=1, api=2)) == ["stop api", "await db", "start api"]
    assert mended(app, up(app, db=1, api=11.5)) == []


def test_a_dependency_that_is_to_run_to_its_end_is_not_run_again() -> None:
    app = spec({"init": {}, "api": {"init": "completed"}})
    assert mended(app, up(app, api=1)) == []


def test_one_that_did_not_come_back_by_itself_is_let_be() -> None:
    app = spec(CHAIN)
    assert mended(app, up(app, api=1, db=2, web=3), back={"db", "web"}) == []


def test_a_dependency_that_did_not_come_up_is_waited_for() -> None:
    app = spec(CHAIN)
    assert mended(app, up(app, api=1, web=2)) == [
        "stop web",
        "stop api",
        "await db",
        "start api",
        "await api",
        "start web",
    ]


def test_a_loop_is_backed_off_and_nobody_is_stopped_for_it() -> None:
    app = spec(CHAIN)
    containers = up(app, api=1, db=2, web=3)
    everyone = frozenset(c.id for c in containers)
    assert mend_order(app, containers, everyone, looping=frozenset({"db"})) == ()


def test_containers_of_another_version_are_the_planners_affair() -> None:
    app = spec(CHAIN)
    assert mended(app, [replace(c, spec="old") for c in up(app, api=1, db=2, web=3)]) == []


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-11-24T07:46:58.006112512Z", 1_795_506_418_006_112_512),
        ("2026-11-24T07:46:58.5Z", 1_795_506_418_500_000_000),
        ("2026-11-24T07:46:58Z", 1_795_506_418_000_000_000),
        ("2026-11-24T15:46:58.006112512+08:00", 1_795_506_418_006_112_512),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_the_engines_times_are_read_to_the_nanosecond(text: str, ns: int | None) -> None:
    assert read_started(text) == ns


@given(st.permutations(["a", "b", "c", "d"]), st.sets(st.sampled_from(["ba", "ca", "cb", "da", "db", "dc"])))
def test_after_mending_everything_is_in_order(order: list[str], edges: set[str]) -> None:
    """Whatever order they came in: carried out, the steps leave nothing to mend, and start nothing twice."""
    needs = {name: {edge[1]: "started" for edge in edges if edge[0] == name} for name in "abcd"}
    app = spec(needs)
    containers = {c.service: c for c in up(app, **{name: n for n, name in enumerate(order)})}
    running, now = set(containers), 30
    started = []
    for step in mend_order(app, list(containers.values()), frozenset(c.id for c in containers.values())):
        if isinstance(step, StopContainer):
            dependents = {name for name in needs if step.service in needs[name]}
            assert not dependents & running, "those that need it were stopped before"
            running.discard(step.service)
        elif isinstance(step, AwaitService):
            assert step.service in running
        elif isinstance(step, StartContainer):
            now += 1
            running.add(step.service)
            started.append(step.service)
            containers[step.service] = replace(containers[step.service], started_at=at(now))
    assert running == set("abcd")
    assert len(started) == len(set(started))
    assert mended(app, list(containers.values())) == []
    for name, needed in needs.items():
        for other in needed:
            mine, its = read_started(containers[name].started_at), read_started(containers[other].started_at)
            assert mine is not None
            assert its is not None
            assert its < mine
