"""The HTTP server: what a well-behaved client gets, who may connect, and where."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from agent.errors import GatewayError, Malformed, Unauthorised
from agent.http.messages import Peer, Request
from agent.http.router import Router
from agent.http.server import HttpServer
from tests.fakes.http_shop import QUICK, Open, Shop, post, serving, until
from tests.fakes.raw_http import RawClient, problem_of


async def test_a_body_comes_back(shop: Open) -> None:
    status, headers, body = await shop.ask(post("/echo", b"hello"))
    assert (status, body) == (200, b"hello")
    assert headers["content-length"] == "5"


async def test_a_chunked_body_is_one_body(shop: Open) -> None:
    chunks = b"3\r\nabc\r\n2;note=1\r\nde\r\n0\r\nTrailer: dropped\r\n\r\n"
    _, _, body = await shop.ask(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert body == b"abcde"


async def test_one_connection_serves_many_requests(shop: Open) -> None:
    client = await shop.client()
    for number in range(50):
        assert (await client.ask(post("/echo", str(number).encode())))[2] == str(number).encode()
    await client.close()
    assert shop.server.stats.connections == 1


async def test_pipelined_requests_are_answered_in_order_across_a_slow_one(shop: Open) -> None:
    client = await shop.client()
    client.send(post("/echo", b"1") + b"GET /hold HTTP/1.1\r\n\r\n" + post("/echo", b"2") + post("/echo", b"3"))
    assert (await client.answer())[2] == b"1"
    await until(lambda: shop.server.in_flight == 1)
    assert shop.shop.seen == ["1"], "what stands behind a waiting request must wait too"
    shop.shop.hold.set()
    assert [(await client.answer())[2] for _ in range(3)] == [b'"held"', b"2", b"3"]
    await client.close()


async def test_a_request_may_arrive_byte_by_byte(shop: Open) -> None:
    client = await shop.client()
    for byte in post("/echo", b"slow"):
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.answer())[2] == b"slow"
    await client.close()


async def test_a_path_segment_is_decoded_and_a_query_parsed(shop: Open) -> None:
    _, _, named = await shop.ask(b"GET /named/a%2Fb%20c HTTP/1.1\r\n\r\n")
    _, _, query = await shop.ask(b"GET /query?filter=boiler%2F%23&x= HTTP/1.1\r\n\r\n")
    assert json.loads(named) == {"name": "a/b c"}
    assert json.loads(query) == [["filter", "boiler/#"], ["x", ""]]


async def test_a_client_that_asks_to_close_is_answered_and_closed(shop: Open) -> None:
    client = await shop.client()
    client.send(post("/echo", b"bye", "Connection: close"))
    assert (await client.answer())[1]["connection"] == "close"
    assert await client.at_end()
    await client.close()


async def test_a_client_that_closes_its_half_still_gets_its_answer(shop: Open) -> None:
    client = await shop.client()
    client.send(b"GET /hold HTTP/1.1\r\n\r\n")
    client.writer.write_eof()
    await until(lambda: shop.server.in_flight == 1)
    shop.shop.hold.set()
    assert (await client.answer())[2] == b'"held"'
    assert await client.at_end()
    await client.close()


async def test_expect_continue_is_answered_before_the_body_comes(shop: Open) -> None:
    client = await shop.client()
    client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"ok")
    assert (await client.answer())[2] == b"ok"
    await client.close()


async def test_json_that_is_none_is_malformed() -> None:
    request = Request("POST", "/", "", Peer(1, 1, 1), None)
    for body in (b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'"\xff"'):
        request.body = body
        with pytest.raises(Malformed):
            request.json()


async def test_the_peer_is_the_kernels_word(tmp_path: Path) -> None:
    peers: list[Peer] = []

    async def check(peer: Peer) -> str:
        peers.append(peer)
        return "a container"

    async with serving(tmp_path, check=check) as shop:
        assert (await shop.ask(post("/echo", b"x")))[0] == 200
        assert peers == [Peer(os.getpid(), os.getuid(), os.getgid(), "a container")]


async def test_a_foreign_process_gets_401_once_and_reaches_no_handler(tmp_path: Path) -> None:
    async def check(peer: Peer) -> str:
        raise Unauthorised("esdk.foreign_process", "this socket is not yours", hint="use your own")

    async with serving(tmp_path, check=check) as shop:
        client = await shop.client()
        client.send(post("/echo", b"x"))
        answer = await client.answer()
        assert (answer[0], problem_of(answer)["code"]) == (401, "esdk.foreign_process")
        assert await client.at_end()
        await client.close()
        assert shop.shop.seen == []
        assert shop.server.stats.refused_peers == 1


async def test_a_check_that_never_ends_closes_the_connection(tmp_path: Path) -> None:
    async def check(peer: Peer) -> str:
        await asyncio.sleep(60)
        return ""

    async with serving(tmp_path, QUICK, check) as shop:
        client = await shop.client()
        assert await client.at_end()
        await client.close()


async def test_the_sockets_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        server = HttpServer(Router())
        await server.start(tmp_path / "s.sock", mode=0o666)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s.sock").stat().st_mode) == 0o666
    assert [path.name for path in tmp_path.iterdir()] == ["s.sock"]
    await server.stop()


async def test_a_stale_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    first = HttpServer(Router())
    await first.start(tmp_path / "s.sock")
    await first.stop()
    second = HttpServer(Router())
    await second.start(tmp_path / "s.sock")
    await second.stop()
    (tmp_path / "precious").write_text("data")
    with pytest.raises(GatewayError) as caught:
        await HttpServer(Router()).start(tmp_path / "precious")
    assert caught.value.code == "http.socket_path_taken"
    assert (tmp_path / "precious").read_text() == "data"


async def test_a_path_too_long_for_a_socket_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="107 bytes") as caught:
        await HttpServer(Router()).start(tmp_path / ("x" * 120))
    assert "shorter state folder" in caught.value.hint


async def test_stopping_ends_streams_and_waits_for_handlers(tmp_path: Path) -> None:
    shop = Shop()
    server = HttpServer(shop.router)
    await server.start(tmp_path / "s.sock")
    reader, asker = [await RawClient.connect(tmp_path / "s.sock") for _ in range(2)]
    reader.send(b"GET /stream HTTP/1.1\r\n\r\n")
    await reader.reader.readuntil(b"data: 2\n\n")
    asker.send(b"GET /hold HTTP/1.1\r\n\r\n")
    await until(lambda: server.in_flight == 1)
    stopping = asyncio.create_task(server.stop(grace_s=5))
    assert await reader.at_end()
    shop.hold.set()
    assert (await asker.answer())[2] == b'"held"'
    await stopping
    assert shop.closed_streams == 1
    for client in (reader, asker):
        await client.close()
