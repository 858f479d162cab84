"""Floods on one socket: the agent's memory does not grow, and a neighbour's requests are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tests.fakes.esdk_gateway import DRIVER, GUARD, EsdkGateway, esdk_gateway
from tests.fakes.http_shop import until
from tests.fakes.raw_http import RawClient

GARBAGE = [
    b"\x16\x03\x01\x02\x00\r\n\r\n",
    b"POST /v1/points HTTP/1.1\r\nContent-Length: 900000\r\n\r\n" + b"x" * 20_000,
    b"GET /v1/self HTTP/1.1\r\nX: " + b"a" * 20_000,
    b"POST /v1/points HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 3_000,
    b"GET /v1/self HTTP/1.1\r\n\r\n" * 100,
    b"POST /v1/points HTTP/1.1\r\nContent-Length: 3\r\n\r\n[[[",
]
MAX_GROWTH_BYTES = 2 * 1024 * 1024


@pytest.fixture
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EsdkGateway]:
    async with esdk_gateway(tmp_path_factory.mktemp("e")) as opened:
        await opened.open(DRIVER, GUARD)
        yield opened


async def throw(gateway: EsdkGateway, raw: bytes, count: int) -> None:
    """`count` clients that send `raw` and leave without reading."""
    for _ in range(count):
        client = await RawClient.connect(gateway.sockets.path("guard"))
        client.send(raw)
        with contextlib.suppress(ConnectionError):
            await client.writer.drain()
        client.writer.transport.abort()
    await until(lambda: gateway.sockets.stats()["guard"]["open_connections"] == 0)


async def test_garbage_leaves_no_memory_behind(gateway: EsdkGateway) -> None:
    for raw in GARBAGE:
        await throw(gateway, raw, 20)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for raw in GARBAGE:
            await throw(gateway, raw, 150)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < MAX_GROWTH_BYTES / 8, f"{grown} bytes stayed"
    guard = await gateway.app("guard")
    assert (await guard.get("/v1/self"))[0] in (200, 429)
    await guard.close()


async def test_half_open_and_slow_clients_cost_little_and_the_neighbour_notices_nothing(gateway: EsdkGateway) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        flood = []
        for number in range(200):
            client = await RawClient.connect(gateway.sockets.path("guard"))
            flood.append(client)
            client.send(b"POST /v1/points HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * (number * 1_000))
        await asyncio.sleep(0.2)
        neighbour = await gateway.app("modbus-1")
        assert (await neighbour.post("/v1/points", {"p": "boiler/temp", "v": 1.0}))[0] == 200
        # The clients live in this process too: their own unsent bytes are not the server's.
        unsent = sum(cast("asyncio.Transport", each.writer.transport).get_write_buffer_size() for each in flood)
        peak = tracemalloc.get_traced_memory()[0] - before - unsent
        assert peak < 12 * 1024 * 1024, f"{peak} bytes"
    finally:
        tracemalloc.stop()
    for client in flood:
        client.writer.transport.abort()
    await until(lambda: gateway.sockets.stats()["guard"]["open_connections"] == 0)
    await neighbour.close()


async def test_readers_that_do_not_read_are_bounded_in_memory(gateway: EsdkGateway) -> None:
    readers = []
    for _ in range(16):
        reader = await gateway.app("guard")
        await reader.open_stream("/v1/points/stream")
        cast("asyncio.Transport", reader.raw.writer.transport).pause_reading()
        readers.append(reader)
    driver = await gateway.app("modbus-1")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(60):
            assert (await driver.post("/v1/points", [{"p": "boiler/temp", "v": float(number)}] * 500))[0] == 200
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # Each may hold one frame on its way and 1,024 updates: the rest is merged to the latest value.
    assert grown < 16 * 400_000, f"{grown} bytes"
    for caller in [*readers, driver]:
        caller.raw.writer.transport.abort()
