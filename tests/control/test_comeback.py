"""After a boot, and after an engine that stopped everything, services stand in the order of `depends_on`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.bootorder import read_started
from agent.domain.container import RunState
from tests.control.rig import REGISTRY, Rig, running

MANIFEST = f"""\
name: chain
x-ec: {{update: {{health: {{within: 5s, stable_for: 0s}}}}}}
services:
  web: {{image: "{REGISTRY}/pump:1", depends_on: [api]}}
  api: {{image: "{REGISTRY}/pump:1", depends_on: [db]}}
  db: {{image: "{REGISTRY}/pump:1"}}
"""
ORDER = ["db", "api", "web"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="chain", manifest=MANIFEST))
        assert came_up(rig) == ORDER
        yield rig


def came_up(rig: Rig) -> list[str]:
    """The services that run, in the order of their starts."""
    states = [rig.engine.find("chain", service)[0] for service in ORDER]
    serving = [c for c in states if c.state is RunState.RUNNING]
    return [c.service for c in sorted(serving, key=lambda c: read_started(c.started_at) or 0)]


def starts(rig: Rig) -> int:
    return len([op for op, _ in rig.engine.log if op == "start"])


async def boot(rig: Rig) -> None:
    """The machine goes down and comes up; the engine starts everything at once, the agent comes after it."""
    await rig.kill()
    rig.host.boot_id += "x"
    rig.engine.reboot(backwards=True)
    assert came_up(rig) == ORDER[::-1]
    await rig.start()


async def test_after_a_boot_the_order_holds(rig: Rig) -> None:
    await boot(rig)
    await rig.until(lambda: came_up(rig) == ORDER, "the order")
    await rig.until(lambda: rig.room.ledger.meta["boot_id"] == rig.host.boot_id, "its end")
    assert came_up(rig) == ORDER
    assert [len(rig.engine.find("chain", service)) for service in ORDER] == [1, 1, 1]


async def test_a_machine_that_cannot_tell_its_boot_for_once_forgets_none(rig: Rig) -> None:
    known = rig.room.ledger.meta["boot_id"]
    await rig.kill()
    rig.host.boot_id = ""
    await rig.start()
    await rig.until(lambda: "chain" in rig.room.reconciler.observed, "the look")
    await rig.job(await rig.send("app.restart", instance="chain"))
    assert rig.room.ledger.meta["boot_id"] == known != ""


async def test_a_boot_is_dealt_with_once(rig: Rig) -> None:
    await boot(rig)
    await rig.until(lambda: rig.room.ledger.meta["boot_id"] == rig.host.boot_id, "its end")
    assert came_up(rig) == ORDER
    before = starts(rig)
    rig.engine.crash("chain", "db")
    await rig.restart()
    await rig.until(lambda: "chain" in rig.room.reconciler.observed, "the adoption")
    assert starts(rig) == before, "a crash of what others need is no boot"
    assert came_up(rig) == ["api", "web", "db"]


async def test_an_agent_killed_within_it_goes_on_with_it(rig: Rig) -> None:
    await rig.kill()
    rig.host.boot_id += "x"
    rig.engine.reboot(backwards=True)
    gate = rig.engine.faults.pause("start")
    await rig.start()
    await gate.reached.wait()
    assert rig.room.ledger.meta["boot_id"] != rig.host.boot_id
    await rig.restart()
    await rig.until(lambda: rig.room.ledger.meta["boot_id"] == rig.host.boot_id, "its end")
    assert came_up(rig) == ORDER


async def test_a_boot_in_good_order_restarts_nothing(rig: Rig) -> None:
    await rig.kill()
    rig.host.boot_id += "x"
    rig.engine.reboot()
    before = starts(rig)
    await rig.start()
    await rig.until(lambda: rig.room.ledger.meta["boot_id"] == rig.host.boot_id, "its end")
    assert starts(rig) == before


async def test_a_new_agent_in_the_same_boot_restarts_nothing(rig: Rig) -> None:
    rig.engine.crash("chain", "db")
    await rig.until(lambda: came_up(rig) == ["api", "web", "db"], "its restart by the engine")
    before = starts(rig)
    await rig.restart()
    await rig.until(lambda: "chain" in rig.room.reconciler.observed, "the adoption")
    assert starts(rig) == before


async def test_an_engine_that_came_back_without_its_containers_is_put_in_order(rig: Rig) -> None:
    rig.engine.drop()
    rig.engine.reboot(backwards=True)
    before = starts(rig)
    await rig.until(lambda: came_up(rig) == ORDER, "the order")
    assert starts(rig) - before == 2, "the first of the row came up first of all, and stays"


async def test_an_engine_that_kept_its_containers_restarts_nothing(rig: Rig) -> None:
    rig.engine.crash("chain", "db")
    await rig.until(lambda: came_up(rig) == ["api", "web", "db"], "its restart by the engine")
    before = starts(rig)
    rig.engine.drop()
    rig.engine.restore()
    looked = len(rig.engine.log)
    await rig.until(lambda: ("volumes", "chain") in rig.engine.log[looked:], "another look")
    assert starts(rig) == before
