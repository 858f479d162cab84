"""What stands of the alarms: one suite on the fake and on the state file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.data.alarms import AlarmStore
from agent.domain.alarm import Alarm, Severity
from agent.store.state import StateStore
from tests.fakes.outbox import FakeAlarmStore

HOT = Alarm("rule", "hot", Severity.MAJOR, "it is hot: \N{DEGREE SIGN}C", 1_700_000_000_000)


@pytest.fixture(params=["fake", "real"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AlarmStore]:
    if request.param == "fake":
        yield FakeAlarmStore()
        return
    made = StateStore(tmp_path / "state.db")
    await made.open()
    yield made
    await made.close()


async def test_what_was_saved_stands_in_all_its_fields(store: AlarmStore) -> None:
    other = replace(HOT, source="app:pump", acknowledged_ms=5, count=3)
    assert await store.load_alarms() == []
    for alarm in (HOT, other):
        await store.save_alarm(alarm)
    assert sorted(await store.load_alarms(), key=lambda alarm: alarm.key) == [other, HOT]


async def test_the_last_word_about_an_alarm_is_the_one_that_stands(store: AlarmStore) -> None:
    again = replace(HOT, message="hotter", count=2)
    for alarm in (HOT, again):
        await store.save_alarm(alarm)
    assert await store.load_alarms() == [again]


async def test_a_cleared_alarm_is_forgotten_and_may_come_again(store: AlarmStore) -> None:
    cleared = replace(HOT, cleared_ms=7)
    for alarm in (cleared, HOT, cleared, cleared):
        await store.save_alarm(alarm)
    assert await store.load_alarms() == []
    await store.save_alarm(HOT)
    assert await store.load_alarms() == [HOT]
