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

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

Bench = Callable[[str], str]
"""Runs one case: "" when all is well, else what is wrong."""
MISSED = "missed: the operation was over before the moment came"
"""What a case answers when its fault could not strike, and all was well: counted apart, since it proves nothing."""
NEARER = "nearer: "
"""How a case's answer begins when all was well and its fault struck, though at a moment near the one that was meant."""
HARNESS = "harness: "
"""How a case's problem begins when the harness failed twice, and the gateway was not asked."""
BLOCK = 8
"""Cases that follow each other stay together: many begin where the one before ended."""


class HarnessFault(Exception):
    """A part of the harness did not do what it should, whatever the gateway did: the case is run once more."""


def went_wrong(problem: str) -> bool:
    """Whether a case's answer is a problem."""
    return problem not in ("", MISSED) and not problem.startswith(NEARER)


T = TypeVar("T")


@contextmanager
def one_at_a_time(opened: Callable[[str], AbstractContextManager[T]], run: Callable[[T, str], str]) -> Iterator[Bench]:
    """A bench of several kinds of lab: a case begins with its kind, and the one before is closed when another comes."""
    with contextlib.ExitStack() as stack:
        labs: dict[str, T] = {}

        def run_one(case: str) -> str:
            kind = case.split("/", maxsplit=1)[0]
            if kind not in labs:
                stack.pop_all().close()
                labs.clear()
                labs[kind] = stack.enter_context(opened(kind))
            return run(labs[kind], case)

        yield run_one
        stack.pop_all().close()


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
    """One case that was run. `problem` is "" when all was well; `version` is the commit it was run on.

    `again`: the harness had failed before, and the case was run once more.
    """

    case: str
    problem: str
    seconds: float
    version: str
    again: bool = False


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
    """Run one case; whatever it raises is its problem. Where the harness itself fails it is run once more."""
    outcome = _attempt(bench, case, version)
    if outcome.problem.startswith(HARNESS):
        outcome = replace(_attempt(bench, case, version), again=True)
    return outcome


def _attempt(bench: Bench, case: str, version: str) -> Outcome:
    begun = time.monotonic()
    try:
        problem = bench(case)
    except Exception as error:
        name = HARNESS if isinstance(error, HarnessFault) else f"{type(error).__name__}: "
        problem = " ".join([f"{name}{error}", *getattr(error, "__notes__", [])])
    return Outcome(case, problem, round(time.monotonic() - begun, 3), version)


def run(
    campaign: Campaign, cases: Sequence[str], folder: Path, results: Results, version: str, lanes: int = 1
) -> Generator[Outcome, None, None]:
    """Run `cases` in so many lanes, each with a bench of its own, and yield each outcome once it is on disk.

    A lane takes the next block of cases when it is through with one. Whoever stops listening ends the lanes, each after
    the case it is at. What keeps a bench from being opened or closed is raised when all lanes are over.
    """
    work = _Lanes(campaign, cases, version)
    work.start(folder, lanes)
    try:
        for outcome in work.listen():
            results.add(outcome)
            yield outcome
    finally:
        for outcome in work.end():
            results.add(outcome)
    if work.broken:
        raise work.broken[0]


class _Lanes:
    """Threads that run the cases; what keeps a bench from being opened or closed is in `broken`."""

    def __init__(self, campaign: Campaign, cases: Sequence[str], version: str) -> None:
        self.broken: list[BaseException] = []
        self._campaign = campaign
        self._version = version
        self._work: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()
        self._blocks = range(0, len(cases), BLOCK)
        for first in self._blocks:
            self._work.put(cases[first : first + BLOCK])
        self._told: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, folder: Path, lanes: int) -> None:
        """Begin; no lane has nothing to do."""
        for number in range(min(lanes, len(self._blocks))):
            room = folder / str(number)
            room.mkdir(parents=True)
            thread = threading.Thread(target=self._run, args=(room,), name=f"lane-{number}")
            self._threads.append(thread)
            thread.start()

    def listen(self) -> Iterator[Outcome]:
        """Each outcome as it comes, until all lanes are over."""
        running = len(self._threads)
        while running:
            outcome = self._told.get()
            if outcome is None:
                running -= 1
            else:
                yield outcome

    def end(self) -> Iterator[Outcome]:
        """Wait until all lanes are over, at the latest after the case they are at; what nobody has listened to."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        while not self._told.empty():
            outcome = self._told.get()
            if outcome is not None:
                yield outcome

    def _run(self, room: Path) -> None:
        try:
            with self._campaign.open(room) as bench, contextlib.suppress(queue.Empty):
                while True:
                    for case in self._work.get_nowait():
                        if self._stopped.is_set():
                            return
                        self._told.put(run_case(bench, case, self._version))
        except BaseException as error:
            self.broken.append(error)
        finally:
            self._told.put(None)


def choose(cases: Sequence[str], done: dict[str, Outcome], shard: tuple[int, int]) -> list[str]:
    """The cases of shard (k, of n; k from 1) that have not gone well yet: not those that missed, either."""
    mine = [case for number, case in enumerate(cases) if number // BLOCK % shard[1] == shard[0] - 1]
    return [case for case in mine if case not in done or done[case].problem == MISSED or went_wrong(done[case].problem)]
