"""A state that was made anew: what runs goes on running, whatever the new state knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.domain.app import Wanted
from agent.domain.command import Origin
from agent.errors import Unreachable
from tests.control.rig import Rig, manifest, running

FAST = "within: 2s, stable_for: 0s"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


def ids(rig: Rig, instance: str = "pump") -> list[str]:
    return [c.id for c in rig.engine.find(instance, "main") if c.serving]


async def begin_again(rig: Rig, spoil: Callable[[], object]) -> None:
    """Stop the agent, spoil its files, start a new one and let it look at the engine."""
    assert await rig.store.settled()
    await rig.kill()
    spoil()
    await rig.start()
    await rig.until(lambda: rig.room.ledger.meta.get("survey") == "", "the look at the engine")


async def test_a_corrupt_state_is_made_anew_and_no_app_is_restarted(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1"), values={"LIMIT": 9}))
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=FAST)))
    await rig.send("app.install", instance="still", manifest=manifest("1"))
    await rig.until(lambda: rig.serving("still") == ["pump:1"], "the second")
    await rig.send("app.stop", Origin.LOCAL, instance="still")
    await rig.until(lambda: not rig.serving("still"), "its stop")
    before, wanted = ids(rig), dict(rig.room.ledger.desired)
    await begin_again(rig, lambda: (rig.root / "state.db").write_bytes(b"\x00garbage" * 900))
    (mended,) = rig.store.mended
    assert "2 instances and 2 releases came from their files" in str(mended)
    assert (rig.root / mended.aside).read_bytes() == b"\x00garbage" * 900
    await asyncio.sleep(0.2)
    assert ids(rig) == before
    assert {n: (d.owner, d.wanted, d.hold, d.current) for n, d in rig.room.ledger.desired.items()} == {
        n: (d.owner, d.wanted, d.hold, d.current) for n, d in wanted.items()
    }
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("3", health=FAST)))
    assert rig.serving() == ["pump:3"]
    await rig.restart()
    assert not rig.store.mended


async def test_without_any_file_of_the_state_what_runs_is_left_alone_also_by_the_agent_after_next(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    before = ids(rig)

    def lose_all() -> None:
        (rig.root / "state.db").unlink()
        for path in [*rig.root.glob("*/*.json"), rig.root / "facts.json"]:
            path.unlink()

    await begin_again(rig, lose_all)
    await rig.restart()
    await rig.until(lambda: "app:pump/unexplained" in rig.alarms.standing, "the alarm")
    await asyncio.sleep(0.2)
    assert ids(rig) == before
    assert not rig.room.ledger.desired
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    assert ids(rig) == before, "the same release finds its containers running"
    assert "app:pump/unexplained" not in rig.alarms.standing
    await rig.restart()
    await rig.until(lambda: not rig.room.ledger.meta["unexplained:pump"], "the end of the mark")


async def test_an_instance_that_only_labels_know_is_taken_over_when_its_release_is_here(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    before = ids(rig)

    def lose_the_instance() -> None:
        (rig.root / "state.db").write_bytes(b"")
        (rig.root / "instances/pump.json").write_bytes(b'{"sum":"00"')

    await begin_again(rig, lose_the_instance)
    assert "not to be had: instance pump" in str(rig.store.mended[0])
    desired = rig.room.ledger.desired["pump"]
    assert (desired.owner, desired.wanted) == (Origin.LOCAL, Wanted.RUNNING)
    await asyncio.sleep(0.2)
    assert ids(rig) == before
    done = await rig.job(
        await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=manifest("2", health=FAST))
    )
    assert (done.state, rig.serving()) == ("done", ["pump:2"])


async def test_one_whose_values_are_lost_is_not_restarted_with_others(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1"), values={"LIMIT": 9}))
    before = ids(rig)

    def lose_the_instance() -> None:
        (rig.root / "state.db").unlink()
        (rig.root / "instances/pump.json").unlink()

    await begin_again(rig, lose_the_instance)
    await rig.until(lambda: "app:pump/unexplained" in rig.alarms.standing, "the alarm")
    await asyncio.sleep(0.2)
    assert (ids(rig), list(rig.room.ledger.desired)) == (before, [])


async def test_files_that_are_a_step_behind_the_engine_do_not_take_it_back(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    assert await rig.store.settled()
    old = {p: p.read_bytes() for p in (rig.root / "instances/pump.json", rig.root / "facts.json")}
    await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2", health=FAST)))
    before = ids(rig)

    def go_back() -> None:
        (rig.root / "state.db").write_bytes(b"not a database")
        for path, content in old.items():
            path.write_bytes(content)

    await begin_again(rig, go_back)
    await asyncio.sleep(0.2)
    assert (ids(rig), rig.serving()) == (before, ["pump:2"])


async def test_nothing_is_changed_before_the_engine_was_looked_through(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    assert await rig.store.settled()
    await rig.kill()
    (rig.root / "state.db").unlink()
    before = ids(rig)
    rig.engine.faults.fail_next("containers", Unreachable("engine.unreachable", "no answer"))
    await rig.start()
    await asyncio.sleep(0.3)
    assert rig.room.ledger.unsure
    await rig.until(lambda: not rig.room.ledger.unsure, "a second look")
    await asyncio.sleep(0.1)
    assert ids(rig) == before
