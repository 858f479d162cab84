"""The disk that holds the gateway's own state is full at a bad moment: what was decided follows once there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.control.ledger import Journal
from agent.domain.command import JobState
from agent.domain.journal import Change
from agent.domain.transition import REASON
from agent.errors import Failed, NoSpace
from tests.control.rig import Rig, manifest, running

FULL = NoSpace("store.full", "no space left to write state.db")


class FullAt:
    """A journal that refuses what `meets` names, so many `times`."""

    def __init__(self, journal: Journal, meets: Callable[[Change], bool], times: int = 1) -> None:
        self._journal = journal
        self._meets = meets
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def commit(self, change: Change, now_ms: int) -> None:
        if self.left and self._meets(change):
            self.left -= 1
            raise FULL
        await self._journal.commit(change, now_ms)


def fill(rig: Rig, meets: Callable[[Change], bool], times: int = 1) -> FullAt:
    full = FullAt(rig.room.ledger.journal, meets, times)
    rig.room.ledger.journal = full
    return full


async def test_a_verdict_that_cannot_be_written_is_tried_again_soon(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        rig.engine.fail_next("start", Failed("engine.cannot_execute", "exec format error"), times=2)
        full = fill(rig, lambda change: any(REASON in job.params for job in change.jobs))
        job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
        assert (job.state, full.left) == (JobState.ROLLED_BACK, 0)
        await rig.until(lambda: rig.serving() == ["pump:1"], "the old version")
