"""The HTTP server on a bad day: what a client cannot do, and what it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.http.limits import Limits
from tests.fakes.http_shop import Open, post, serving, until
from tests.fakes.raw_http import problem_of

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
    async with serving(tmp_path, Limits(bodies_bytes=100_000)) as shop:
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
    async with serving(tmp_path, Limits(connections=3)) as shop:
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
    async with serving(tmp_path, Limits(pipeline=4)) as shop:
        client = await shop.client()
        client.send(b"GET /hold HTTP/1.1\r\n\r\n" + post("/echo", b"x") * 20)
        await until(lambda: shop.server.in_flight == 1)
        shop.shop.hold.set()
        statuses: list[int] = []
        while not statuses or statuses[-1] == 200:
            statuses.append((await client.answer())[0])
        assert statuses == [200] * 6 + [429]
        assert len(shop.shop.seen) == 5
        await client.close()


async def test_waiting_handlers_are_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(in_flight=2)) as shop:
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
