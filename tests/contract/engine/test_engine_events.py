"""Events: what marks an APP dirty arrives; a gap is always told by None."""

from __future__ import annotations

import asyncio
import contextlib
import time

from agent.domain.container import LABEL_APP
from tests.contract.engine.rig import RealRig, Rig, docker, listening, make_spec, run


async def test_the_first_thing_told_is_that_everything_shall_be_listed(rig: Rig) -> None:
    stream = rig.engine.events()
    assert await anext(stream) is None
    await stream.aclose()  # type: ignore[attr-defined]


async def test_the_life_of_a_container_is_told_in_order(rig: Rig) -> None:
    async with listening(rig.engine) as listener:
        state = await run(rig, make_spec(rig))
        await rig.engine.stop(state.id, 5)
        await rig.engine.remove(state.id)
        await listener.until_action("destroy")
    told = [e for e in listener.seen if e is not None]
    assert {(e.instance, e.service, e.container_id) for e in told} == {("pump", "main", state.id)}
    actions = [e.action for e in told if e.action in ("create", "start", "die", "stop", "destroy")]
    assert actions == ["create", "start", "die", "stop", "destroy"]
    assert [e.time_ns for e in told] == sorted(e.time_ns for e in told)


async def test_a_crash_is_told(rig: Rig) -> None:
    async with listening(rig.engine) as listener:
        state = await run(rig, make_spec(rig))
        await rig.crash(state)
        await listener.until(lambda seen: sum(1 for e in seen if e and e.action == "start") == 2)
    told = [(e.action, e.container_id) for e in listener.seen if e and e.action in ("start", "die")]
    assert told == [("start", state.id), ("die", state.id), ("start", state.id)]


async def test_after_the_engine_was_away_everything_is_listed_and_events_go_on(rig: Rig) -> None:
    async with listening(rig.engine) as listener:
        await rig.drop()
        await asyncio.sleep(0)
        await rig.restore()
        await listener.until(lambda seen: seen.count(None) >= 2)
        before = len(listener.seen)
        state = await run(rig, make_spec(rig))
        started = await listener.until_action("start")
    assert started.container_id == state.id
    assert [e.action for e in listener.seen[before:] if e] == ["create", "start"]


async def test_closing_the_stream_is_prompt_even_when_nothing_happens(rig: Rig) -> None:
    stream = rig.engine.events()
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert time.monotonic() - began < 2


async def test_other_peoples_containers_and_our_own_probes_are_silent(real: RealRig) -> None:
    async with listening(real.engine) as listener:
        state = await run(real, make_spec(real))
        docker("run", "--rm", "--network", "none", "--label", f"{LABEL_APP}=pump", real.image, "true")
        docker("exec", state.id, "true")
        await real.engine.remove(state.id)
        await listener.until_action("destroy")
    told = [e for e in listener.seen if e is not None]
    assert {e.container_id for e in told} == {state.id}
    assert not any(e.action.startswith("exec") for e in told)
