"""Death at a chosen moment, for fault tests: ``ECGW_FAILPOINT`` says at which journal entry the agent kills itself.

``step:7:before``   the 7th step is journaled as begun; the engine was not asked yet
``step:7:after``    the engine has done the 7th step; that is not journaled yet
``commit:12``       the 12th decision is made; it is not on disk yet. ``commit:12:after``: it is, and nobody has acted on it
``@FILE``           the moment stands in FILE, and the count begins when it appears there: a running agent can be armed

The daemon puts this before its journal only where the variable is set. SIGKILL, so that nothing is tidied up.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.control.ledger import Journal
from agent.domain.command import Reply
from agent.domain.journal import Change, JournaledStep, Snapshot
from agent.errors import Malformed

VARIABLE = "ECGW_FAILPOINT"


@dataclass(frozen=True, slots=True)
class Failpoint:
    """The `number`-th ``step`` or ``commit`` from now on, and on which side of it."""

    what: str
    number: int
    side: str


def parse_failpoint(text: str) -> Failpoint:
    """``step:7:before`` and the like. Malformed when it is none: a fault test must not pass because nothing happened."""
    what, _, rest = text.strip().partition(":")
    number, _, side = rest.partition(":")
    side = side or "before"
    if what not in ("step", "commit") or not number.isdecimal() or int(number) < 1 or side not in ("before", "after"):
        hint = "step:<n>:before, step:<n>:after, commit:<n>, commit:<n>:after, or @FILE that holds one of them"
        raise Malformed("failpoint.malformed", f"{VARIABLE}: {text.strip()!r} is no failpoint", hint=hint)
    return Failpoint(what, int(number), side)


class FailingJournal:
    """A journal that counts what passes through it, and calls `die` at the failpoint."""

    def __init__(self, journal: Journal, setting: str, die: Callable[[], None] | None = None) -> None:
        self._journal = journal
        self._die = die or _end_this_process
        self._file = Path(setting[1:]) if setting.startswith("@") else None
        self._point = None if self._file else parse_failpoint(setting)
        self._armed = setting
        self._seen = {"step": 0, "commit": 0}
        self._numbers: dict[int, int] = {}

    async def begin_step(self, instance: str, step: str, now_ms: int) -> int:
        """Journal the beginning, then die if it is this step's turn."""
        count = self._count("step")
        number = await self._journal.begin_step(instance, step, now_ms)
        self._numbers[number] = count
        self._die_at("step", count, "before")
        return number

    async def end_step(self, number: int, ended: str) -> None:
        """Die before the end is journaled if it is this step's turn."""
        self._die_at("step", self._numbers.pop(number, 0), "after")
        await self._journal.end_step(number, ended)

    async def commit(self, change: Change, now_ms: int) -> None:
        """Die before or after the decision is on disk if it is its turn."""
        count = self._count("commit")
        self._die_at("commit", count, "before")
        await self._journal.commit(change, now_ms)
        self._die_at("commit", count, "after")

    def _count(self, what: str) -> int:
        self._arm()
        self._seen[what] += 1
        return self._seen[what]

    def _arm(self) -> None:
        """Take up what stands in the file now; the count begins anew with it."""
        if self._file is None:
            return
        text = self._file.read_text() if self._file.exists() else ""
        if text != self._armed:
            self._armed = text
            self._point = parse_failpoint(text) if text.strip() else None
            self._seen = {"step": 0, "commit": 0}
            self._numbers.clear()

    def _die_at(self, what: str, count: int, side: str) -> None:
        if self._point == Failpoint(what, count, side):
            self._die()

    async def load(self) -> Snapshot:
        """As the journal."""
        return await self._journal.load()

    async def reply_to(self, command_id: str) -> Reply | None:
        """As the journal."""
        return await self._journal.reply_to(command_id)

    async def mark_told(self, job_id: str, updated_ms: int) -> None:
        """As the journal."""
        await self._journal.mark_told(job_id, updated_ms)

    async def steps(self, instance: str, from_ms: int, to_ms: int) -> list[JournaledStep]:
        """As the journal."""
        return await self._journal.steps(instance, from_ms, to_ms)

    async def save_site(self, files: Mapping[str, bytes]) -> None:
        """As the journal."""
        await self._journal.save_site(files)

    async def load_site(self) -> Mapping[str, bytes]:
        """As the journal."""
        return await self._journal.load_site()


def _end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def with_failpoint(journal: Journal) -> Journal:
    """`journal`, or one that dies where the environment says so."""
    setting = os.environ.get(VARIABLE, "")
    return FailingJournal(journal, setting) if setting else journal
