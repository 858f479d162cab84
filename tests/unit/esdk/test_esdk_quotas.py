"""A flooding APP meets its own limits, and its neighbours notice nothing."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import Busy
from agent.esdk.quotas import Bucket, Quota
from agent.http.limits import Limits
from tests.fakes.esdk_gateway import DRIVER, GUARD, esdk_gateway


class Time:
    """Seconds that a test turns by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_gives_two_seconds_at_once_and_then_its_rate() -> None:
    time = Time()
    bucket = Bucket("requests", 10.0, time)
    for _ in range(20):
        bucket.take()
    with pytest.raises(Busy) as caught:
        bucket.take()
    assert 0 < caught.value.fields["retry_after_s"] <= 0.1
    time.now_s += 0.55
    for _ in range(6):
        bucket.take()
    with pytest.raises(Busy):
        bucket.take()


def test_a_batch_larger_than_the_bucket_goes_through_and_is_paid_back() -> None:
    time = Time()
    bucket = Bucket("samples", 10.0, time)
    bucket.take(100)
    with pytest.raises(Busy) as caught:
        bucket.take()
    assert caught.value.fields["retry_after_s"] == pytest.approx(8.1)
    time.now_s += 8.2
    bucket.take()


def test_a_clock_that_stands_still_fills_nothing() -> None:
    time = Time()
    bucket = Bucket("requests", 1.0, time)
    bucket.take(2)
    for _ in range(3):
        with pytest.raises(Busy):
            bucket.take()


async def test_past_its_quota_an_app_gets_429_and_its_neighbour_is_served(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with esdk_gateway(tmp_path_factory.mktemp("e"), quota=Quota(requests_per_s=20)) as gateway:
        await gateway.open(DRIVER, GUARD)
        flood, neighbour = await gateway.app("guard"), await gateway.app("modbus-1")
        statuses = [(await flood.get("/v1/self"))[0] for _ in range(60)]
        assert statuses[:40] == [200] * 40
        assert statuses.count(429) > 10
        status, problem = await flood.get("/v1/config")
        assert (status, problem["code"], problem["quota"]) == (429, "esdk.quota", "requests")
        assert (await neighbour.get("/v1/self"))[0] == 200
        assert gateway.sockets.stats()["guard"]["used"]["refused"] > 10
        for caller in (flood, neighbour):
            await caller.close()


async def test_samples_are_counted_one_by_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with esdk_gateway(tmp_path_factory.mktemp("e"), quota=Quota(samples_per_s=10)) as gateway:
        await gateway.open(DRIVER)
        driver = await gateway.app("modbus-1")
        assert (await driver.post("/v1/points", [{"p": "boiler/temp", "v": 1.0}] * 100))[0] == 200
        status, problem = await driver.post("/v1/points", {"p": "boiler/temp", "v": 2.0})
        assert (status, problem["quota"]) == (429, "samples")
        assert problem["retry_after_s"] > 1
        latest = gateway.plane.table.latest("boiler/temp")
        assert latest is not None
        assert latest.value == 1.0
        await driver.close()


async def test_streams_are_bounded_and_a_closed_one_makes_room(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with esdk_gateway(tmp_path_factory.mktemp("e"), quota=Quota(streams=3)) as gateway:
        await gateway.open(GUARD)
        streams = [await gateway.app("guard") for _ in range(3)]
        for each in streams:
            await each.open_stream("/v1/points/stream")
        extra = await gateway.app("guard")
        status, problem = await extra.get("/v1/points/stream")
        assert (status, problem["quota"]) == (429, "streams")
        await streams[0].close()
        async with asyncio.timeout(5):
            while (session := gateway.sockets.session("guard")) and session.meter.streams == 3:
                await asyncio.sleep(0.01)
        await extra.open_stream("/v1/points/stream")
        for each in [*streams[1:], extra]:
            await each.close()


async def test_a_refused_stream_does_not_count_as_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with esdk_gateway(tmp_path_factory.mktemp("e"), quota=Quota(streams=1)) as gateway:
        await gateway.open(GUARD)
        guard = await gateway.app("guard")
        for _ in range(3):
            assert (await guard.get("/v1/points/stream?filter=%23"))[0] == 403
        await guard.open_stream("/v1/points/stream")
        await guard.close()


async def test_a_flood_of_connections_stays_on_its_own_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with esdk_gateway(tmp_path_factory.mktemp("e"), limits=Limits(connections=8)) as gateway:
        await gateway.open(DRIVER, GUARD)
        flood = [await gateway.app("guard") for _ in range(12)]
        neighbour = await gateway.app("modbus-1")
        assert (await neighbour.get("/v1/self"))[0] == 200
        for caller in [*flood, neighbour]:
            await caller.close()
