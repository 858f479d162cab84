"""The health gate: what makes a new version proven, and what sends it back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.domain.container import ContainerState, Health, Live, Restart, RunState
from agent.domain.gate import Gate, Verdict, observe

UP = ContainerState("1", "n", "app", "a", "r", "s", "i", RunState.RUNNING, started_at="t0")


def look(gate: Gate, at: float, *containers: ContainerState, probe: str | None = None) -> Gate:
    return observe(gate, ("a",), containers, probe, at)


@pytest.fixture
def gate() -> Gate:
    return Gate(within_s=60, stable_s=10, began=0)


def test_it_passes_after_staying_healthy_for_the_stable_time(gate: Gate) -> None:
    gate = look(look(gate, 1, UP), 10.9, UP)
    assert gate.verdict is Verdict.PENDING
    assert look(gate, 11, UP).verdict is Verdict.PASSED


def test_a_restart_starts_the_stable_time_again(gate: Gate) -> None:
    again = replace(UP, started_at="t1", restart_count=1)
    gate = look(look(look(gate, 1, UP), 9, again), 12, again)
    assert gate.verdict is Verdict.PENDING
    assert look(gate, 19, again).verdict is Verdict.PASSED


def test_never_healthy_fails_at_the_deadline_and_says_why(gate: Gate) -> None:
    gate = look(look(gate, 1, replace(UP, health=Health.STARTING)), 60, replace(UP, health=Health.STARTING))
    assert gate.verdict is Verdict.FAILED
    assert gate.reason == "not healthy within 60 s: a is still starting"


def test_a_healthcheck_that_is_starting_has_its_own_time_where_none_was_stated(gate: Gate) -> None:
    starting = replace(UP, health=Health.STARTING)
    gate = look(look(replace(gate, patient=True), 1, starting), 205, starting)
    assert gate.verdict is Verdict.PENDING
    assert look(gate, 206, replace(UP, health=Health.UNHEALTHY)).reason == "a is unhealthy"
    healthy = look(gate, 206, replace(UP, health=Health.HEALTHY))
    assert look(healthy, 216, replace(UP, health=Health.HEALTHY)).verdict is Verdict.PASSED
    down = look(gate, 206, replace(UP, state=RunState.RESTARTING))
    assert down.verdict is Verdict.PENDING
    assert look(down, 266, replace(UP, state=RunState.RESTARTING)).verdict is Verdict.FAILED, "anything else counts"


def test_unhealthy_fails_at_once(gate: Gate) -> None:
    gate = look(look(gate, 1, UP), 2, replace(UP, health=Health.UNHEALTHY))
    assert (gate.verdict, gate.reason) == (Verdict.FAILED, "a is unhealthy")


def test_crashing_three_times_fails_at_once_and_tells_an_oom_apart(gate: Gate) -> None:
    crashed = replace(UP, restart_count=3, exit_code=0, oom_killed=True)
    assert look(gate, 2, crashed).reason == "a crashes again and again (it was killed for using too much memory)"


def test_restarting_for_ever_cannot_hold_the_gate_open(gate: Gate) -> None:
    for second in range(1, 70):
        gate = look(gate, second, replace(UP, started_at=f"t{second // 5}"))
    assert gate.verdict is Verdict.FAILED


def test_a_discontent_probe_keeps_it_waiting_and_its_words_are_kept(gate: Gate) -> None:
    gate = look(gate, 1, UP, probe="GET /healthy answered 503")
    assert gate.verdict is Verdict.PENDING
    gate = look(gate, 61, UP, probe="GET /healthy answered 503")
    assert gate.reason == "not healthy within 60 s: GET /healthy answered 503"


def test_a_missing_container_is_waited_for_then_fails(gate: Gate) -> None:
    assert look(gate, 1).verdict is Verdict.PENDING
    assert look(look(gate, 1), 60).reason == "not healthy within 60 s: a has no container"


def test_a_verdict_is_never_changed_again(gate: Gate) -> None:
    failed = look(gate, 2, replace(UP, health=Health.UNHEALTHY))
    assert look(failed, 3, UP) == failed


def test_what_ended_without_an_error_and_shall_stay_so_is_content(gate: Gate) -> None:
    done = replace(UP, state=RunState.EXITED, restart_count=3, live=Live(restart=Restart.ON_FAILURE))
    assert look(look(gate, 1, done), 11, done).verdict is Verdict.PASSED


def test_what_ended_with_an_error_or_shall_run_for_ever_is_not(gate: Gate) -> None:
    ended = replace(UP, state=RunState.EXITED)
    assert look(gate, 1, ended).reason == "a is exited (exit code 0)"
    failed = replace(ended, exit_code=2, live=Live(restart=Restart.NO))
    assert look(gate, 1, failed).reason == "a is exited (exit code 2)"
