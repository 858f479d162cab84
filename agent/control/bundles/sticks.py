"""Takes bundles from watched folders: each once, by the same command that a person at the box would give.

A bundle that stands still for one look is imported. What it says of itself (its index's hash) is remembered, so that it
is not taken twice, also after a reboot or when the stick comes back. One whose bytes turned out not to be what its
index says may come again, since only the copy was bad: once, when every byte of another is right. A refusal is an alarm
until the file goes; so is a job that failed, until one of the same file is done.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agent.control.converge.supervisor import Alarms
from agent.control.inbox import Inbox
from agent.control.ledger import Ledger
from agent.domain.alarm import Severity
from agent.domain.command import Command, Job, JobState, Origin
from agent.domain.journal import Change
from agent.errors import BY_STATUS, GatewayError, Malformed
from agent.files.sticks import Stamp
from agent.ports import Bundles

log = logging.getLogger("agent.control.bundles.sticks")

EVERY_S = 2.0
AGAIN_LOOKS = 15
"""After so many looks what could not be taken yet (no room, no answer) is tried again."""
TAKEN = "bundle:"
"""Begins the mark of a bundle that was taken, by its key; what is marked is the job that it became, or one of these:"""
SPOILT = "spoilt"
"""That job failed since the copy was cut short or spoilt. Said here, since jobs are forgotten."""
WHOLE = "whole:"
"""Begins what is marked of one taken again, from a copy that was read through before: its failure is not the copy's fault."""
SOURCE = "bundle:"
"""Begins the alarm source of one file, with its whole path: on two sticks there may be files of one name."""
REFUSED = "refused"
FAILED = (JobState.FAILED, JobState.ROLLED_BACK)


class Sticks:
    """`folders` are looked into for ever; with `take_over`, bundles may replace what the cloud or a file owns."""

    def __init__(
        self,
        folders: Sequence[Path],
        inbox: Inbox,
        ledger: Ledger,
        bundles: Bundles,
        alarms: Alarms,
        *,
        take_over: bool,
    ) -> None:
        self._folders = tuple(folders)
        self._inbox = inbox
        self._ledger = ledger
        self._bundles = bundles
        self._alarms = alarms
        self._take_over = take_over
        self._before: Mapping[Path, Stamp] = {}
        self._done: dict[Path, Stamp] = {}
        self._said: dict[Path, str] = {}
        self._later: dict[Path, int] = {}
        self._became: dict[Path, str] = {}
        """The job that each file became, while that may still fail."""
        self._begun = False

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Take every bundle that was there at the last look and has not changed since."""
        self._see_ends()
        await self._mark_spoilt()
        found = await self._bundles.find(self._folders)
        if not self._begun:
            self._begun = True
            self._clear_old(found)
        for path in self._done.keys() - found.keys():
            del self._done[path]
            self._later.pop(path, None)
            self._became.pop(path, None)
            self._clear(path)
        for path in list(self._later):
            self._later[path] -= 1
            if not self._later[path]:
                del self._later[path]
                self._done.pop(path, None)
        for path, stamp in found.items():
            if self._before.get(path) == stamp and self._done.get(path) != stamp:
                self._done[path] = stamp
                await self._take(path)
        self._before = found

    def _see_ends(self) -> None:
        """Tell what failed in its job; a later job of the same file, by whomever, counts in its place."""
        latest: dict[str, Job] = {str(job.params.get("bundle")): job for job in self._ledger.jobs.values()}
        for path, became in self._became.items():
            job = self._ledger.jobs.get(became)
            after = latest.get(str(path))
            if job is not None and after is not None and after.created_ms > job.created_ms:
                self._became[path], job = after.id, after
            if job is not None and job.state in FAILED:
                self._refused(path, f"job {job.id} ended as {job.state}: {job.message}", later=False)
            elif job is not None and job.state is JobState.DONE:
                self._clear(path)

    async def _take(self, path: Path) -> None:
        self._became.pop(path, None)
        try:
            key = (await self._bundles.look(str(path))).key
            mark = TAKEN + key
            spoilt = self._is_spoilt(mark)
            if spoilt:
                # A stamp would not tell copies apart: on FAT another mount has other inodes, and copying keeps the time.
                await self._bundles.look(str(path), whole=True)
        except GatewayError as error:
            self._refused(path, str(error), later=error.retryable)
            return
        if mark in self._ledger.meta and not spoilt:
            self._clear(path)
            self._became[path] = self._ledger.meta[mark].removeprefix(WHOLE)
            self._see_ends()
            log.info("bundle_known path=%r key=%s", str(path), key)
            return
        params = {"path": str(path), "take_over": self._take_over}
        command = Command(f"stick-{uuid.uuid4().hex}", "bundle.import", params, Origin.LOCAL, who=f"stick {path}")
        reply = await self._inbox.submit(command)
        if reply.ok:
            await self._ledger.decide(lambda: Change(meta=((mark, (WHOLE if spoilt else "") + reply.job),)))
            self._clear(path)
            self._became[path] = reply.job
            log.info("bundle_taken path=%r key=%s job=%s", str(path), key, reply.job)
        else:
            self._refused(path, reply.msg, later=BY_STATUS.get(reply.code, GatewayError).retryable)

    def _is_spoilt(self, mark: str) -> bool:
        marked = self._ledger.meta.get(mark, "")
        job = self._ledger.jobs.get(marked)
        failed = job is not None and job.state is JobState.FAILED and job.error_status == Malformed.status
        return failed or marked == SPOILT

    async def _mark_spoilt(self) -> None:
        """Write down which of the jobs failed by their copies, while they are known."""
        taken = ((mark, marked) for mark, marked in self._ledger.meta.items() if mark.startswith(TAKEN))
        spoilt = tuple((mark, SPOILT) for mark, marked in taken if marked != SPOILT and self._is_spoilt(mark))
        if spoilt:
            await self._ledger.decide(lambda: Change(meta=spoilt))

    def _refused(self, path: Path, why: str, *, later: bool) -> None:
        if later:
            self._later[path] = AGAIN_LOOKS
        shown = _shown(path)
        message = why if shown in why else f"{shown}: {why}"
        if self._said.get(path) != message:
            self._said[path] = message
            log.warning("bundle_refused path=%s reason=%s", shown, why)
            self._alarms.raise_alarm(SOURCE + shown, REFUSED, Severity.MINOR, message)

    def _clear(self, path: Path) -> None:
        self._said.pop(path, None)
        self._alarms.clear_alarm(SOURCE + _shown(path), REFUSED)

    def _clear_old(self, found: Iterable[Path]) -> None:
        """What was refused before a restart and went meanwhile."""
        here = {SOURCE + _shown(path) for path in found}
        for alarm in self._alarms.active():
            if alarm.source.startswith(SOURCE) and alarm.source not in here:
                self._alarms.clear_alarm(alarm.source, alarm.code)


def _shown(path: Path) -> str:
    """A path as text that can be written: what a stick holds may be called anything."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
