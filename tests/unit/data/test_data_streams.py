"""Change streams: every value for whoever keeps up, the latest of each point for whoever does not."""

from __future__ import annotations

import asyncio

import pytest

from agent.data.streams import MAX_SUBSCRIPTIONS
from agent.domain.sample import Sample
from agent.errors import Busy
from tests.unit.data.parts import Rig


async def test_a_watcher_gets_every_value_of_its_points_and_no_others() -> None:
    rig = Rig().configure()
    stream = rig.plane.streams.subscribe(["boiler/temp"])
    rig.plane.ingest.accept(
        "modbus-1", [Sample("boiler/temp", 1.0), Sample("boiler/valve", 5), Sample("boiler/temp", 2.0)]
    )
    assert [(update.p, update.v) for update in stream.drain()] == [("boiler/temp", 1.0), ("boiler/temp", 2.0)]


async def test_a_slow_watcher_gets_the_latest_of_each_point_and_memory_stays_bounded() -> None:
    rig = Rig().configure()
    stream = rig.plane.streams.subscribe(["#"], max_waiting=3)
    for number in range(100):
        rig.feed("boiler/temp", float(number))
        rig.feed("boiler/valve", number)
    updates = [(update.p, update.v) for update in stream.drain()]
    assert updates[:3] == [("boiler/temp", 0.0), ("boiler/valve", 0), ("boiler/temp", 1.0)]
    assert sorted(updates[3:]) == [("boiler/temp", 99.0), ("boiler/valve", 99)]
    assert stream.coalesced == 195


async def test_it_can_begin_with_what_is_known_and_sees_points_that_appear_later() -> None:
    rig = Rig().configure()
    rig.plane.table.set_publishers({"guard": ["guard/#"]})
    rig.feed("boiler/temp", 7.0)
    stream = rig.plane.streams.subscribe(["boiler/+", "guard/#"], initial=True)
    rig.feed("guard/new", 1.0, instance="guard")
    assert [(update.p, update.v) for update in await stream.batch()] == [("boiler/temp", 7.0), ("guard/new", 1.0)]


async def test_closing_ends_the_iteration_and_costs_the_ingest_nothing_any_more() -> None:
    rig = Rig().configure()
    stream = rig.plane.streams.subscribe(["#"])
    got: list[float | int | bool | str] = []

    async def watch() -> None:
        got.extend([update.v async for update in stream])

    watching = asyncio.create_task(watch())
    rig.feed("boiler/temp", 1.0, 2.0)
    await asyncio.sleep(0)
    stream.close()
    await watching
    rig.feed("boiler/temp", 3.0)
    assert got == [1.0, 2.0]
    assert rig.plane.table.states["boiler/temp"].watchers == ()
    assert await stream.batch() == []


async def test_a_ready_call_comes_once_for_what_waits() -> None:
    rig = Rig().configure()
    stream = rig.plane.streams.subscribe(["#"])
    calls: list[int] = []
    stream.on_ready = lambda: calls.append(1)
    rig.feed("boiler/temp", 1.0, 2.0)
    assert calls == [1]
    stream.drain()
    rig.feed("boiler/temp", 3.0)
    assert calls == [1, 1]


async def test_the_number_of_streams_is_bounded() -> None:
    rig = Rig().configure()
    for _ in range(MAX_SUBSCRIPTIONS):
        rig.plane.streams.subscribe(["#"])
    with pytest.raises(Busy):
        rig.plane.streams.subscribe(["#"])


async def test_an_old_sample_is_no_change() -> None:
    rig = Rig().configure()
    rig.feed("boiler/temp", 1.0)
    stream = rig.plane.streams.subscribe(["#"])
    rig.plane.ingest.accept("modbus-1", [rig.sample("boiler/temp", 9.0, ago_s=60)])
    assert stream.drain() == []
