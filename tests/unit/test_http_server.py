"""The HTTP server: what a well-behaved client gets, and what every other one cannot do."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import GatewayError, Malformed, Refused, Unauthorised
from agent.http.limits import Limits
from agent.http.messages import Peer, Request, Response, Sink, Stream, json_response
from agent.http.router import Router
from agent.http.server import HttpServer
from tests.fakes.raw_http import RawClient, problem_of

QUICK = Limits(head_s=0.2, body_s=0.2, idle_s=0.4, linger_s=0.2, write_s=0.3, beat_s=0.1, verify_s=0.3)


class Shop:
    """A server with one handler of every kind, and what they saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.hold = asyncio.Event()
        self.closed_streams = 0
        self.router = Router()
        self.router.add("POST", "/echo", self.echo)
        self.router.add("POST", "/small", self.echo, max_body=10)
        self.router.add("GET", "/named/{name}", lambda request: json_response(dict(request.params)))
        self.router.add("GET", "/query", lambda request: json_response(request.query))
        self.router.add("GET", "/hold", self.wait)
        self.router.add("GET", "/broken", self.broken)
        self.router.add("GET", "/broken-later", self.broken_later)
        self.router.add("GET", "/refused", self.refuse)
        self.router.add("GET", "/stream", self.stream)
        self.router.add("GET", "/flood", self.flood)

    def echo(self, request: Request) -> Response:
        self.seen.append(request.body.decode("utf-8", "replace"))
        return Response(200, request.body, "text/plain")

    async def wait(self, request: Request) -> Response:
        await self.hold.wait()
        return json_response("held")

    def broken(self, request: Request) -> Response:
        raise RuntimeError("a bug")

    async def broken_later(self, request: Request) -> Response:
        await asyncio.sleep(0)
        raise RuntimeError("a later bug")

    def refuse(self, request: Request) -> Response:
        raise Refused("shop.closed", "the shop is closed", hint="come back tomorrow", day="sunday")

    def stream(self, request: Request) -> Stream:
        async def feed(sink: Sink) -> None:
            for number in range(3):
                sink.send("tick", str(number).encode(), str(number))
            await self.hold.wait()

        return Stream(feed, self._count_close)

    def flood(self, request: Request) -> Stream:
        async def feed(sink: Sink) -> None:
            while not sink.closed:
                sink.send("drop", b"x" * 10_000)
                await asyncio.sleep(0)

        return Stream(feed, self._count_close)

    def _count_close(self) -> None:
        self.closed_streams += 1


class Open:
    """A shop that serves at `path`."""

    def __init__(self, shop: Shop, server: HttpServer, path: Path) -> None:
        self.shop, self.server, self.path = shop, server, path

    async def client(self) -> RawClient:
        return await RawClient.connect(self.path)

    async def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        client = await self.client()
        try:
            return await client.ask(raw)
        finally:
            await client.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Open]:
    async for each in serve(tmp_path):
        yield each


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Open]:
    async for each in serve(tmp_path, QUICK):
        yield each


async def serve(folder: Path, limits: Limits | None = None, check: Any = None) -> AsyncIterator[Open]:
    shop = Shop()
    server = HttpServer(shop.router, limits=limits, check=check, name="shop")
    path = folder / "s.sock"
    await server.start(path)
    yield Open(shop, server, path)
    shop.hold.set()
    await server.stop()
    assert server.bodies_bytes == 0
    assert server.in_flight == 0
    assert server.stats.streams == 0
    assert server.connections == 0


def post(path: str, body: bytes, *more: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: ec", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


async def until(condition: Any, within_s: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


# -- a good day ---------------------------------------------------------------------------------------------------


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


# -- the bad day --------------------------------------------------------------------------------------------------

SMUGGLING = {
    "both lengths": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "same length twice": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length list": b"POST /echo HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
    "signed length": b"POST /echo HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
    "space before the colon": b"POST /echo HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
    "folded header": b"POST /echo HTTP/1.1\r\nX: a\r\n b: c\r\n\r\n",
    "chunked and more": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked hidden": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative chunk": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    "overflowing chunk": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
    "bare line feeds": b"POST /echo HTTP/1.1\nContent-Length: 3\n\nabc",
    "NUL in a header": b"POST /echo HTTP/1.1\r\nX: a\x00b\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n\r\n",
    "no version": b"GET /query\r\n\r\n",
    "another version": b"GET /query HTTP/2.0\r\n\r\n",
    "upgrade": b"GET /query HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    "absolute target": b"GET http://other/query HTTP/1.1\r\n\r\n",
    "unknown method": b"BREW /echo HTTP/1.1\r\n\r\n",
    "not HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("shape", SMUGGLING, ids=[name.replace(" ", "-") for name in SMUGGLING])
async def test_a_doubtful_shape_is_refused_with_400_and_closed_and_reaches_no_handler(shop: Open, shape: str) -> None:
    client = await shop.client()
    client.send(SMUGGLING[shape])
    answer = await client.answer()
    assert answer[0] == 400
    assert problem_of(answer)["code"].startswith("http.")
    assert await client.at_end()
    await client.close()
    assert shop.shop.seen == []


async def test_what_is_hidden_behind_a_refused_request_is_never_served(shop: Open) -> None:
    client = await shop.client()
    client.send(SMUGGLING["both lengths"] + post("/echo", b"smuggled"))
    assert (await client.answer())[0] == 400
    assert await client.at_end()
    await client.close()
    assert shop.shop.seen == []


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /query HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /query HTTP/1.1\r\nX: " + b"a" * 20_000,
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /query HTTP/1.1\r\n" + b"X: 1\r\n" * 100 + b"\r\n",
    ],
    ids=["header", "unfinished header", "path", "many headers"],
)
async def test_a_head_over_the_bound_is_431(shop: Open, raw: bytes) -> None:
    assert (await shop.ask(raw))[0] == 431


async def test_a_body_over_the_routes_bound_is_413_before_it_is_sent(shop: Open) -> None:
    answer = await shop.ask(b"POST /small HTTP/1.1\r\nContent-Length: 11\r\n\r\n")
    assert answer[0] == 413
    assert problem_of(answer)["limit"] == 10
    assert (await shop.ask(post("/echo", b"x" * 11)))[0] == 200


async def test_a_chunked_body_over_the_bound_is_413(shop: Open) -> None:
    raw = b"POST /small HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"6\r\nabcdef\r\n" * 3
    assert (await shop.ask(raw))[0] == 413


async def test_a_client_in_the_middle_of_a_huge_body_can_read_why_it_was_refused(shop: Open) -> None:
    client = await shop.client()
    client.send(post("/echo", b"x" * 2_000_000))
    assert (await client.answer())[0] == 413
    await client.close()


async def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    async for shop in serve(tmp_path, Limits(bodies_bytes=100_000)):
        clients = [await shop.client() for _ in range(3)]
        for client in clients[:2]:
            client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"x" * 49_000)
        await until(lambda: shop.server.bodies_bytes == 98_000)
        answer = await clients[2].ask(post("/echo", b"x" * 5_000))
        assert answer[0] == 429
        for client in clients:
            await client.close()
        await until(lambda: shop.server.bodies_bytes == 0)
        assert (await shop.ask(post("/echo", b"x" * 5_000)))[0] == 200


@pytest.mark.parametrize(
    ("raw", "what"),
    [(b"GET /query HTTP/1.1\r\nX: a", "head"), (b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", "body")],
)
async def test_a_client_that_dawdles_is_408(quick: Open, raw: bytes, what: str) -> None:
    answer = await quick.ask(raw)
    assert answer[0] == 408
    assert what in problem_of(answer)["title"]
    assert quick.server.stats.slow == 1


async def test_a_client_that_trickles_bytes_does_not_win_time(quick: Open) -> None:
    client = await quick.client()
    client.send(b"GET /query HTTP/1.1\r\nX: ")
    began = asyncio.get_running_loop().time()
    while not client.reader.at_eof() and not client.reader._buffer:  # type: ignore[attr-defined]
        client.send(b"a")
        await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - began < 5
    assert (await client.answer())[0] == 408
    await client.close()


async def test_an_idle_connection_is_closed_without_a_word(quick: Open) -> None:
    client = await quick.client()
    assert await client.at_end()
    await client.close()


async def test_connections_over_the_bound_are_429_and_leave_the_others_alone(tmp_path: Path) -> None:
    async for shop in serve(tmp_path, Limits(connections=3)):
        clients = [await shop.client() for _ in range(3)]
        await until(lambda: shop.server.connections == 3)
        extra = await shop.client()
        answer = await extra.answer()
        assert answer[0] == 429
        assert answer[1]["retry-after"] == "1"
        assert (await clients[0].ask(post("/echo", b"x")))[0] == 200
        for client in [*clients, extra]:
            await client.close()


async def test_a_pipeline_over_the_bound_is_answered_up_to_there_then_429(tmp_path: Path) -> None:
    async for shop in serve(tmp_path, Limits(pipeline=4)):
        client = await shop.client()
        client.send(b"GET /hold HTTP/1.1\r\n\r\n" + post("/echo", b"x") * 20)
        await until(lambda: shop.server.in_flight == 1)
        shop.shop.hold.set()
        statuses = []
        while not statuses or statuses[-1] == 200:
            statuses.append((await client.answer())[0])
        assert statuses == [200] * 6 + [429]
        assert len(shop.shop.seen) == 5
        await client.close()


async def test_waiting_handlers_are_bounded(tmp_path: Path) -> None:
    async for shop in serve(tmp_path, Limits(in_flight=2)):
        clients = [await shop.client() for _ in range(3)]
        for client in clients[:2]:
            client.send(b"GET /hold HTTP/1.1\r\n\r\n")
        await until(lambda: shop.server.in_flight == 2)
        assert (await clients[2].ask(b"GET /hold HTTP/1.1\r\n\r\n"))[0] == 429
        for client in clients:
            await client.close()


async def test_an_unknown_path_and_a_wrong_method_are_problem_documents(shop: Open) -> None:
    missing = await shop.ask(b"GET /nothing HTTP/1.1\r\n\r\n")
    wrong = await shop.ask(b"DELETE /echo HTTP/1.1\r\n\r\n")
    assert (missing[0], problem_of(missing)["code"]) == (404, "http.no_such_path")
    assert (wrong[0], wrong[1]["allow"], problem_of(wrong)["code"]) == (405, "POST", "http.method_not_allowed")


async def test_a_refusal_carries_code_hint_and_fields(shop: Open) -> None:
    answer = await shop.ask(b"GET /refused HTTP/1.1\r\n\r\n")
    assert answer[0] == 403
    assert problem_of(answer) == {
        "type": "urn:ec:error:shop.closed",
        "title": "the shop is closed",
        "status": 403,
        "code": "shop.closed",
        "hint": "come back tomorrow",
        "day": "sunday",
    }


@pytest.mark.parametrize("path", ["/broken", "/broken-later"])
async def test_a_bug_is_a_500_that_tells_nothing_and_is_logged_once(
    shop: Open, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await shop.client()
    answer = await client.ask(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    assert (answer[0], problem_of(answer)["code"]) == (500, "internal.error")
    assert b"bug" not in answer[2]
    assert [record.message.split(" ")[0] for record in caplog.records] == ["http.handler_failed"]
    assert (await client.ask(post("/echo", b"still here")))[0] == 200
    await client.close()


async def test_json_that_is_none_is_malformed() -> None:
    request = Request("POST", "/", "", Peer(1, 1, 1), None)
    for body in (b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000):
        request.body = body
        with pytest.raises(Malformed):
            request.json()


# -- streams ------------------------------------------------------------------------------------------------------


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
    client.writer.transport.pause_reading()
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


# -- who may connect, and where -----------------------------------------------------------------------------------


async def test_the_peer_is_the_kernels_word(tmp_path: Path) -> None:
    peers: list[Peer] = []

    async def check(peer: Peer) -> None:
        peers.append(peer)

    async for shop in serve(tmp_path, check=check):
        assert (await shop.ask(post("/echo", b"x")))[0] == 200
        assert peers == [Peer(os.getpid(), os.getuid(), os.getgid())]


async def test_a_foreign_process_gets_401_once_and_reaches_no_handler(tmp_path: Path) -> None:
    async def check(peer: Peer) -> None:
        raise Unauthorised("esdk.foreign_process", "this socket is not yours", hint="use your own")

    async for shop in serve(tmp_path, check=check):
        client = await shop.client()
        client.send(post("/echo", b"x"))
        answer = await client.answer()
        assert (answer[0], problem_of(answer)["code"]) == (401, "esdk.foreign_process")
        assert await client.at_end()
        await client.close()
        assert shop.shop.seen == []
        assert shop.server.stats.refused_peers == 1


async def test_a_check_that_never_ends_closes_the_connection(tmp_path: Path) -> None:
    async def check(peer: Peer) -> None:
        await asyncio.sleep(60)

    async for shop in serve(tmp_path, QUICK, check):
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
