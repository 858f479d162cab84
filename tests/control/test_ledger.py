"""What is on disk and what is in memory are the same, whoever gives up waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.journal import Change
from tests.control.rig import Rig, running


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
