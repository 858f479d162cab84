"""The start of the agent: nothing that happens meanwhile is missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from agent.daemon import Daemon, keep_running
from agent.errors import NoSpace
from agent.logs import Recent
from agent.settings import load
from agent.store.state import KEEP_STEPS, StateStore

RULES = """\
rules:
  guard: {inputs: {p: b/p}, when: p.value > 1, then: [{alarm: {code: high, severity: major}}]}
"""


def make_daemon(short_dir: Path, gateway_id: str) -> tuple[Path, Daemon]:
    """The folder of its settings, and a daemon that is built and not started."""
    root = short_dir / "etc"
    root.mkdir()
    (root / "gateway.yaml").write_text(f"identity: {{id: {gateway_id}}}\n")
    return root, Daemon(load(root, state=short_dir / "var"), Recent())


@pytest.mark.may_block  # the daemon is built before its loop serves anybody
async def test_a_file_written_after_the_first_look_and_before_the_watch_is_seen(
    short_dir: Path, gateway_id: str
) -> None:
    root, daemon = make_daemon(short_dir, gateway_id)
    look = daemon.room.site.apply

    async def look_then_write(unsettled: Collection[Path] = ()) -> None:
        await look(unsettled)
        (root / "rules.d").mkdir(exist_ok=True)
        (root / "rules.d/a.yaml").write_text(RULES)

    daemon.room.site.apply = look_then_write  # type: ignore[method-assign]
    await daemon.start()
    daemon.room.site.apply = look  # type: ignore[method-assign]
    try:
        await until(lambda: daemon.plane.rules.status() != [], "the rule")
        assert [rule["name"] for rule in daemon.plane.rules.status()] == ["guard"]
    finally:
        await daemon.stop()


@pytest.mark.may_block  # the daemon is built before its loop serves anybody
async def test_settings_that_changed_during_the_start_are_said_to_wait_and_not_when_they_are_back(
    short_dir: Path, gateway_id: str
) -> None:
    root, daemon = make_daemon(short_dir, gateway_id)
    text = (root / "gateway.yaml").read_text()
    (root / "gateway.yaml").write_text(text + "log: {level: debug}\n")
    await daemon.start()
    try:
        await until(lambda: codes(daemon) == ["settings_changed"], "the alarm")
        (root / "gateway.yaml").write_text(text + "# a comment\n")
        await until(lambda: codes(daemon) == [], "its end")
        (root / "gateway.yaml").write_text("identitty: {}\n")
        await until(lambda: codes(daemon) == ["settings_changed"], "the alarm about the mistake")
        assert "gateway.yaml:1:1: unknown key 'identitty'" in daemon.plane.alarms.active()[0].message
    finally:
        await daemon.stop()


@pytest.mark.may_block  # the daemon is built before its loop serves anybody
async def test_old_steps_are_forgotten_soon_after_a_start_whatever_the_time_of_day(
    short_dir: Path, gateway_id: str
) -> None:
    _, daemon = make_daemon(short_dir, gateway_id)
    state = StateStore(short_dir / "var/state.db")
    (short_dir / "var").mkdir()
    await state.open()
    await asyncio.gather(*(state.begin_step("pump", f"step {n}", n) for n in range(KEEP_STEPS + 100)))
    await state.close()
    await daemon.start()
    try:
        journal, deadline = daemon.room.ledger.journal, time.monotonic() + 10
        while await journal.steps("pump", 0, 99):
            assert time.monotonic() < deadline, "waited 10 s for the oldest steps to go"
            await asyncio.sleep(0.05)
        assert [each.step for each in await journal.steps("pump", 0, 101)] == ["step 100", "step 101"]
    finally:
        await daemon.stop()


async def test_a_task_that_failed_now_and_then_over_months_is_not_away_for_longer_each_time() -> None:
    clock = 0.0
    pauses: list[float] = []

    async def work() -> None:
        nonlocal clock
        clock += 3600.0 if len(pauses) == 3 else 1.0
        if len(pauses) == 5:
            return
        raise RuntimeError("a defect")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    await keep_running("work", work, lambda: clock, pause)
    assert pauses == [1.0, 2.0, 4.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("error", "traced"), [(NoSpace("state.disk_full", "no room"), False), (RuntimeError("x"), True)]
)
async def test_what_the_gateway_has_words_for_leaves_no_trace_of_its_code_in_the_log(
    error: Exception, traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        if not caplog.records:
            raise error

    async def pause(_: float) -> None:
        return

    await keep_running("work", work, pause=pause)
    (record,) = caplog.records
    assert (bool(record.exc_info), str(error) in record.getMessage()) == (traced, True)


def codes(daemon: Daemon) -> list[str]:
    return [alarm.code for alarm in daemon.plane.alarms.active()]


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, f"waited 10 s for {what}"
        await asyncio.sleep(0.05)
