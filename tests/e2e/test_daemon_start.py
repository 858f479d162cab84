"""The start of the agent: nothing that happens meanwhile is missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
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
        deadline = time.monotonic() + 10
        while [rule["name"] for rule in daemon.plane.rules.status()] != ["guard"]:
            assert time.monotonic() < deadline, "the rule was never seen"
            await asyncio.sleep(0.05)
    finally:
        await daemon.stop()
