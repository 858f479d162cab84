"""What is on disk and what is in memory are the same, whoever gives up waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.control.ledger import Ledger
from agent.domain.command import Job, JobState
from agent.domain.journal import Change
from tests.control.rig import Rig, running
from tests.fakes.hand_clock import HandClock


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_a_decision_whose_asker_is_cancelled_stands_in_memory_as_on_disk(rig: Rig) -> None:
    ledger = rig.room.ledger
    for number in range(20):
        value = str(number)
        asking = asyncio.create_task(ledger.decide(lambda value=value: Change(meta=(("k", value),))))  # type: ignore[misc]
        for _ in range(number % 5):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await ledger.decide(Change)
    assert (await rig.store.load()).meta.get("k") == ledger.meta.get("k")


async def test_all_states_of_a_job_in_one_millisecond_have_times_of_their_own_that_rise(rig: Rig) -> None:
    clock = HandClock()
    ledger = Ledger(rig.store, clock)
    times = []
    for state in (JobState.WAITING, JobState.DOWNLOADING, JobState.INSTALLING, JobState.VERIFYING):
        await ledger.decide(lambda state=state: Change(jobs=(Job("j-1", "install", "pump", "c-1", state),)))  # type: ignore[misc]
        times.append(ledger.jobs["j-1"].updated_ms)
    clock.jump(-5)
    await ledger.move_job("j-1", JobState.DONE)
    assert [*times, ledger.jobs["j-1"].updated_ms] == [clock.now_ms() + 5_000 + n for n in range(5)]
    clock.jump(-86_400)
    await ledger.decide(lambda: Change(jobs=(ledger.jobs["j-1"],)))
    assert ledger.jobs["j-1"].updated_ms == clock.now_ms()


async def test_the_mark_of_an_old_state_of_a_job_is_none_of_the_newest_also_within_one_millisecond(rig: Rig) -> None:
    ledger = Ledger(rig.store, HandClock())
    states = []
    for state in (JobState.WAITING, JobState.DOWNLOADING, JobState.DONE):
        await ledger.decide(lambda state=state: Change(jobs=(Job("j-1", "install", "pump", "c-1", state),)))  # type: ignore[misc]
        states.append(ledger.jobs["j-1"])
    await ledger.mark_told(states[0])
    assert (await rig.store.load()).untold == tuple(ledger.untold) == ("j-1",)
