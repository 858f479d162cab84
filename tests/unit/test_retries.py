"""When failed instances are tried again: soon after the trouble is over, and never as a storm."""

from __future__ import annotations

from agent.control.converge.retries import APART_S, LAST_S, Retries
from agent.domain.app import Desired, Wanted
from agent.domain.command import Origin

PUMP, GUARD = (Desired(name, owner=Origin.LOCAL, wanted=Wanted.RUNNING) for name in ("pump", "guard"))
CONVERGED_WITHIN_S = 30.0


def test_waits_grow_from_a_second_to_a_steady_pace() -> None:
    retries = Retries(jitter=lambda: 0.5)
    waits = []
    for _ in range(8):
        retries.fail("pump", PUMP, "engine.no_space")
        waits.append(retries.wait_s("pump"))
    assert waits == [1, 2, 4, 8, LAST_S, LAST_S, LAST_S, LAST_S]


def test_however_long_the_trouble_stood_the_next_try_comes_well_within_the_promise() -> None:
    for jitter in (0.0, 0.999):
        retries = Retries(jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        now_s, mended_s = 0.0, 3_600.0
        while now_s < mended_s:
            retries.fail("pump", PUMP, "engine.no_space")
            now_s += retries.wait_s("pump")
        assert now_s - mended_s < CONVERGED_WITHIN_S / 2


def test_many_that_fail_together_share_one_pace() -> None:
    retries = Retries(jitter=lambda: 0.5)
    for _ in range(12):
        for number in range(200):
            retries.fail(f"app-{number}", PUMP, "engine.no_space")
    tries_a_second = sum(1 / retries.wait_s(f"app-{number}") for number in range(200))
    assert tries_a_second < 1.01 / APART_S


def test_the_first_that_gets_through_calls_those_that_met_the_same_trouble() -> None:
    retries = Retries()
    retries.fail("pump", PUMP, "engine.no_space")
    retries.fail("guard", GUARD, "engine.no_space")
    retries.fail("lamp", PUMP, "engine.port_taken")
    assert retries.succeed("pump") == ["guard"]
    assert "pump" not in retries
    assert retries.succeed("pump") == []
    assert retries.succeed("never failed") == []


def test_failures_on_the_way_to_one_version_do_not_count_against_the_next() -> None:
    retries = Retries(jitter=lambda: 0.5)
    assert [retries.fail("pump", PUMP, "engine.no_space") for _ in range(5)] == [1, 2, 3, 4, 5]
    assert retries.fail("pump", GUARD, "engine.no_space") == 1
    assert retries.wait_s("pump") == 1
