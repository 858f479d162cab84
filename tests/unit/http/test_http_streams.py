"""Event streams: they arrive, they end with their reader, and a reader that does not read is cut."""

from __future__ import annotations

import asyncio
from typing import cast

from tests.fakes.http_shop import Open, post, until


async def test_events_arrive_and_the_feed_ends_with_its_reader(shop: Open) -> None:
    client = await shop.client()
    client.send(b"GET /stream HTTP/1.1\r\n\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"text/event-stream" in head
    assert await client.reader.readuntil(b"\n\n") == b"event: tick\nid: 0\ndata: 0\n\n"
    assert shop.server.stats.streams == 1
    await client.close()
    await until(lambda: shop.shop.closed_streams == 1)


async def test_a_quiet_stream_has_a_heartbeat(quick: Open) -> None:
    client = await quick.client()
    client.send(b"GET /stream HTTP/1.1\r\n\r\n")
    await client.reader.readuntil(b"data: 2\n\n")
    assert await client.reader.readuntil(b":\n\n") == b":\n\n"
    await client.close()


async def test_a_reader_that_does_not_read_is_cut_and_costs_no_memory(quick: Open) -> None:
    client = await quick.client()
    cast("asyncio.Transport", client.writer.transport).pause_reading()
    client.send(b"GET /flood HTTP/1.1\r\n\r\n")
    await until(lambda: quick.shop.closed_streams == 1)
    assert quick.server.stats.cut == 1
    await client.close()


async def test_a_request_behind_a_stream_is_not_served(shop: Open) -> None:
    client = await shop.client()
    client.send(b"GET /stream HTTP/1.1\r\n\r\n" + post("/echo", b"x"))
    await client.reader.readuntil(b"data: 2\n\n")
    client.send(post("/echo", b"y"))
    shop.shop.hold.set()
    assert await client.at_end()
    await client.close()
    assert shop.shop.seen == []
