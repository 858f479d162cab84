"""The start of the agent: nothing that happens meanwhile is missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from agent.daemon import Daemon
from agent.logs import Recent
from agent.settings import load

RULES = """\
rules:
  guard: {inputs: {p: b/p}, when: p.value > 1, then: [{alarm: {code: high, severity: major}}]}
"""


@pytest.mark.may_block  # the daemon is built before its loop serves anybody
async def test_a_file_written_after_the_first_look_and_before_the_watch_is_seen(
    short_dir: Path, gateway_id: str
) -> None:
    root = short_dir / "etc"
    root.mkdir()
    (root / "gateway.yaml").write_text(f"identity: {{id: {gateway_id}}}\n")
    daemon = Daemon(load(root, state=short_dir / "var"), Recent())
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
    root = short_dir / "etc"
    root.mkdir()
    text = f"identity: {{id: {gateway_id}}}\n"
    (root / "gateway.yaml").write_text(text)
    daemon = Daemon(load(root, state=short_dir / "var"), Recent())
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


def codes(daemon: Daemon) -> list[str]:
    return [alarm.code for alarm in daemon.plane.alarms.active()]


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, f"waited 10 s for {what}"
        await asyncio.sleep(0.05)
