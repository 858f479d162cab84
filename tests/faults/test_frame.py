"""The frame of the campaigns: a run that was stopped goes on, what failed is run again, and what raises has failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import MISSED, Bench, Campaign, Outcome, Results, choose, run
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
    assert "| `toy` | all is well | 30 | 2 | 1 |" in table([found])


def test_a_stopped_run_goes_on_with_what_is_missing_or_went_wrong(tmp_path: Path) -> None:
    made = campaign({"a": "", "b": "wrong", "c": ""})
    outcomes(made, tmp_path, ["a", "b"])
    results = Results(tmp_path, "toy")
    with results.path.open("a") as file:
        file.write('{"case": "c", "problem": "", "sec')  # killed while it wrote
    assert choose(made.cases(), results.read(), (1, 1)) == ["b", "c"]


def test_shards_share_the_cases_out_without_overlap() -> None:
    cases = [str(number) for number in range(10)]
    shards = [choose(cases, {}, (k, 3)) for k in (1, 2, 3)]
    assert sorted(case for shard in shards for case in shard) == sorted(cases)
