"""The frame of `make faults`: campaigns of cases, each case run once, its outcome on disk before the next one begins.

A campaign is a value; `tests/faults/table.py` lists all of them. To plug one in, write a module with

    CAMPAIGN = Campaign(
        name="power-cut",                       # for --only, and the name of its file of results
        claim="0 lost acknowledgements, 0 unparsable files",
        cases=lambda: [f"ext4/{n}" for n in range(1000)],
        open=open_bench,                        # a context manager; what it gives runs one case
    )

    @contextmanager
    def open_bench(folder: Path) -> Iterator[Bench]:
        with Lab(folder) as lab:                # once per process, not once per case
            yield lab.run_case                  # (case) -> "" when all is well, else what is wrong, in words

and name it in the table. A case that raises has failed, with the exception as its reason. Cases are independent, end by
themselves and clean up after themselves; a case's name says all that it needs (a seed, a number), so that
`python -m tests.faults --only NAME --case CASE` does the same again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

Bench = Callable[[str], str]
"""Runs one case: "" when all is well, else what is wrong."""
MISSED = "missed: the operation was over before the moment came"
"""What a case answers when its fault could not strike, and all was well: counted apart, since it proves nothing."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """`cases` may take its time (a dry run that counts). `each` is how many injections or bodies one case stands for."""

    name: str
    claim: str
    cases: Callable[[], Sequence[str]]
    open: Callable[[Path], AbstractContextManager[Bench]]
    each: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case that was run. `problem` is "" when all was well; `version` is the commit it was run on."""

    case: str
    problem: str
    seconds: float
    version: str


class Results:
    """The outcomes of one campaign, one line of JSON each; several shards may append to the same file."""

    def __init__(self, folder: Path, campaign: str) -> None:
        self.path = folder / f"{campaign}.jsonl"

    def read(self) -> dict[str, Outcome]:
        """The last outcome of every case. A line that a kill cut off counts for nothing."""
        found: dict[str, Outcome] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            try:
                outcome = Outcome(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[outcome.case] = outcome
        return found

    def add(self, outcome: Outcome) -> None:
        """Append one outcome."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")


def run_case(bench: Bench, case: str, version: str = "") -> Outcome:
    """Run one case; whatever it raises is its problem."""
    begun = time.monotonic()
    try:
        problem = bench(case)
    except Exception as error:
        problem = " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return Outcome(case, problem, round(time.monotonic() - begun, 3), version)


def run(campaign: Campaign, cases: Sequence[str], folder: Path, results: Results, version: str) -> Iterator[Outcome]:
    """Run `cases` and yield each outcome once it is on disk."""
    if not cases:
        return
    with campaign.open(folder) as bench:
        for case in cases:
            outcome = run_case(bench, case, version)
            results.add(outcome)
            yield outcome


def choose(cases: Sequence[str], done: dict[str, Outcome], shard: tuple[int, int]) -> list[str]:
    """The cases of shard (k, of n; k from 1) that have not gone well yet."""
    mine = [case for number, case in enumerate(cases) if number % shard[1] == shard[0] - 1]
    return [case for case in mine if case not in done or done[case].problem not in ("", MISSED)]
