"""The frame of the campaigns: a run that was stopped goes on, what failed is run again, and what raises has failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.campaign import HARNESS, MISSED, NEARER, Bench, Campaign, HarnessFault, Outcome, Results, choose, run
from tests.faults.campaigns.steps import strike_all
from tests.faults.lab.strike import is_under_way, nearer_delays, strike_in_time
from tests.faults.report import summarise, table


def campaign(answers: dict[str, str]) -> Campaign:
    @contextmanager
    def open_bench(folder: Path) -> Iterator[Bench]:
        yield lambda case: str(1 / 0) if answers[case] == "raise" else answers[case]

    return Campaign("toy", "all is well", lambda: list(answers), open_bench, each=10)


def outcomes(made: Campaign, folder: Path, cases: list[str]) -> list[Outcome]:
    return list(run(made, cases, folder, Results(folder, made.name), "v1"))


def test_a_case_that_raises_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    made = campaign({"a": "", "b": "raise", "c": "wrong", "d": MISSED})
    problems = [outcome.problem for outcome in outcomes(made, tmp_path, ["a", "b", "c", "d"])]
    assert problems == ["", "ZeroDivisionError: division by zero", "wrong", MISSED]
    found = summarise(made, Results(tmp_path, "toy"))
    assert (found.run, found.bad, found.missed, found.versions) == (30, 2, 1, ("v1",))
    assert choose(made.cases(), Results(tmp_path, "toy").read(), (1, 1)) == ["b", "c", "d"], "a miss proves nothing"
    assert "| `toy` | all is well | 30 | 2 | 1 |" in table([found])


def test_a_stopped_run_goes_on_with_what_is_missing_or_went_wrong(tmp_path: Path) -> None:
    made = campaign({"a": "", "b": "wrong", "c": ""})
    outcomes(made, tmp_path, ["a", "b"])
    results = Results(tmp_path, "toy")
    with results.path.open("a") as file:
        file.write('{"case": "c", "problem": "", "sec')  # killed while it wrote
    assert choose(made.cases(), results.read(), (1, 1)) == ["b", "c"]


def test_a_case_that_struck_nearer_has_gone_well_and_is_counted_apart(tmp_path: Path) -> None:
    made = campaign({"a": "", "b": f"{NEARER}at 29, not 31"})
    outcomes(made, tmp_path, ["a", "b"])
    found = summarise(made, Results(tmp_path, "toy"))
    assert (found.run, found.bad, found.missed, found.nearer) == (20, 0, 0, 1)
    assert "| 20 (1 nearer) | 0 | 0 |" in table([found])
    assert choose(made.cases(), Results(tmp_path, "toy").read(), (1, 1)) == []


def test_where_the_harness_fails_a_case_is_run_once_more_and_then_is_bad(tmp_path: Path) -> None:
    times = {"once": 1, "always": 9}
    tried: list[str] = []

    @contextmanager
    def open_bench(folder: Path) -> Iterator[Bench]:
        def bench(case: str) -> str:
            tried.append(case)
            if tried.count(case) <= times[case]:
                raise HarnessFault("strace still runs")
            return ""

        yield bench

    made = Campaign("toy", "all is well", lambda: list(times), open_bench)
    found = outcomes(made, tmp_path, list(times))
    assert [(each.case, each.problem, each.again) for each in found] == [
        ("once", "", True),
        ("always", f"{HARNESS}strace still runs", True),
    ]
    assert tried == ["once", "once", "always", "always"]
    summary = summarise(made, Results(tmp_path, "toy"))
    assert (summary.bad, summary.again) == (1, 2)


def test_lanes_have_benches_of_their_own_and_run_every_case_once(tmp_path: Path) -> None:
    benches: list[Path] = []
    meeting = threading.Barrier(3, timeout=10)

    @contextmanager
    def open_bench(folder: Path) -> Iterator[Bench]:
        assert folder.is_dir()
        benches.append(folder)
        meeting.wait()  # side by side, or nobody gets any further
        yield lambda case: ""

    cases = [str(number) for number in range(100)]
    made = Campaign("toy", "all is well", lambda: cases, open_bench)
    found = list(run(made, cases, tmp_path, Results(tmp_path, "toy"), "v1", lanes=3))
    assert sorted(each.case for each in found) == sorted(cases)
    assert len(set(benches)) == 3
    assert set(Results(tmp_path, "toy").read()) == set(cases)


def test_a_bench_that_does_not_open_is_an_error_of_the_run(tmp_path: Path) -> None:
    @contextmanager
    def open_bench(folder: Path) -> Iterator[Bench]:
        raise RuntimeError("no broker")
        yield lambda case: ""

    made = Campaign("toy", "all is well", lambda: ["a"], open_bench)
    with pytest.raises(RuntimeError, match="no broker"):
        list(run(made, ["a"], tmp_path, Results(tmp_path, "toy"), "v1", lanes=2))


def test_whoever_stops_listening_ends_the_lanes_after_the_case_they_are_at(tmp_path: Path) -> None:
    cases = [str(number) for number in range(5_000)]

    @contextmanager
    def open_bench(folder: Path) -> Iterator[Bench]:
        def bench(case: str) -> str:
            time.sleep(0.01)
            return ""

        yield bench

    before = set(threading.enumerate())
    running = run(
        Campaign("toy", "all is well", lambda: cases, open_bench), cases, tmp_path, Results(tmp_path, "toy"), "v1", 2
    )
    next(running)
    running.close()
    assert 1 <= len(Results(tmp_path, "toy").read()) < len(cases)
    assert set(threading.enumerate()) <= before


def test_shards_share_the_cases_out_without_overlap() -> None:
    cases = [str(number) for number in range(50)]
    shards = [choose(cases, {}, (k, 3)) for k in (1, 2, 3)]
    assert sorted(case for shard in shards for case in shard) == sorted(cases)


class LastsFor:
    """An operation that is over `lasts_s` after its begin, and an agent that says so of its job."""

    def __init__(self, lasts_s: float, problem: str = "") -> None:
        self.struck_s: list[float] = []
        self._lasts_s = lasts_s
        self._problem = problem
        self._now_s = 0.0

    def job(self, number: str) -> dict[str, str]:
        return {"id": number, "state": "done" if self._now_s >= self._lasts_s else "verifying"}

    def attempt(self, delay_s: float) -> str:
        self._now_s = delay_s
        self.struck_s.append(delay_s)
        return self._problem or ("" if is_under_way(self, "7") else MISSED)


def test_a_fault_that_strikes_in_time_is_tried_once() -> None:
    operation = LastsFor(1.0)
    assert strike_in_time(0.8, operation.attempt) == ""
    assert operation.struck_s == [0.8]


def test_a_fault_after_the_end_of_the_operation_is_tried_at_nearer_moments_and_says_so() -> None:
    operation = LastsFor(0.3)
    assert strike_in_time(0.8, operation.attempt) == f"{NEARER}after 0.200 s, not 0.800 s"
    assert operation.struck_s == [0.8, 0.4, 0.2]


def test_a_fault_that_never_strikes_in_time_has_missed_and_is_never_good(tmp_path: Path) -> None:
    operation = LastsFor(0.0)
    made = campaign({"late": strike_in_time(0.8, operation.attempt)})
    assert operation.struck_s == nearer_delays(0.8)
    assert [outcome.problem for outcome in outcomes(made, tmp_path, ["late"])] == [MISSED]
    found = summarise(made, Results(tmp_path, "toy"))
    assert (found.run, found.missed) == (0, 1)
    assert strike_in_time(0.0, operation.attempt) == MISSED, "also where the first moment was the nearest"


def test_what_went_wrong_in_an_attempt_ends_the_attempts() -> None:
    operation = LastsFor(0.3, problem="the data is gone")
    assert strike_in_time(0.8, operation.attempt) == "the data is gone"
    assert operation.struck_s == [0.8]


def test_a_step_that_did_not_come_is_tried_again_and_those_after_it_are_struck_all_the_same() -> None:
    tried: list[str] = []

    def bench(case: str) -> str:
        tried.append(case)
        _, _, number, side = case.split("/")
        unlucky = (number, side) == ("2", "before") and tried.count(case) == 1
        return MISSED if unlucky or int(number) > 4 else ""

    found = strike_all({"upgrade": 3}, bench)
    assert (found.wrong, found.missed) == ({}, [])
    counted = [f"upgrade/step/{number}/{side}" for number in (1, 2, 3, 4) for side in ("before", "after")]
    assert tried == [*counted[:3], *counted[2:], "upgrade/step/5/before"], "also the one that was not counted"


def test_a_counted_step_that_never_comes_has_missed() -> None:
    found = strike_all({"upgrade": 3, "rollback": 1}, lambda case: MISSED if "/2/" in case or "/4/" in case else "")
    assert found.wrong == {}
    assert found.missed == ["upgrade/step/2/before", "upgrade/step/2/after"]
