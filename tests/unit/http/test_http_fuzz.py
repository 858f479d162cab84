"""Any bytes at all: the parser and the server only ever answer with requests served or problem documents."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import GatewayError
from agent.http.limits import Limits
from agent.http.messages import Peer, Request
from agent.http.parsing import RequestParser, Target, make_request
from tests.fakes.http_shop import QUICK, Open, Shop, post, serving
from tests.fakes.raw_http import RawClient

TIGHT = Limits(head_bytes=400, body_bytes=200, bodies_bytes=1_000, headers=8)
PIECES = st.sampled_from(
    [
        b"GET ", b"POST ", b"DELETE ", b"/echo", b"/", b"?a=1", b"#x", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n",
        b"\r\n\r\n", b"Content-Length: 5\r\n", b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: x\r\n",
        b"Expect: 100-continue\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"fffffff\r\n", b"hello", b"X: " + b"a" * 300, b"\x00", b": ",
        post("/echo", b"whole"), b"GET /query?x=%ff HTTP/1.1\r\n\r\n", b"GET /hold HTTP/1.1\r\n\r\n",
    ]
)  # fmt: skip
WIRE = st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=12)


class Budget:
    """What a server keeps for its connections."""

    bodies_bytes = 0


@given(WIRE)
@example([b"POST /echo HTTP/1.1\r\n", b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\na\r\n"] * 300])
@example([b"\r\n"] * 12)
def test_the_parser_raises_nothing_but_refusals_and_stays_within_its_bounds(pieces: list[bytes]) -> None:
    done: list[Request] = []
    budget = Budget()

    def take(request: Request, target: Target) -> None:
        assert len(request.body) <= TIGHT.body_bytes
        assert sum(len(name) + len(value) for name, value in request.raw_headers) <= TIGHT.head_bytes
        budget.bodies_bytes -= len(request.body)
        done.append(request)

    parser = RequestParser(Shop().router, TIGHT, budget, make_request(Peer(1, 1, 1), None), take, lambda: None)
    refusal: GatewayError | None = None
    for piece in pieces:
        try:
            parser.feed(piece)
        except GatewayError as error:
            refusal = error
            break
        assert budget.bodies_bytes <= TIGHT.body_bytes
    assert refusal is None or 400 <= refusal.status < 500
    parser.release()
    assert budget.bodies_bytes == 0
    for request in done:
        assert request.path.startswith("/")
        assert isinstance(request.headers, dict)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_request_is_the_same_however_it_is_cut(body: bytes, data: st.DataObject) -> None:
    raw = post("/echo", body, "X-One: 1") + post("/echo", body)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    seen: list[bytes] = []
    parser = RequestParser(
        Shop().router,
        Limits(),
        Budget(),
        make_request(Peer(1, 1, 1), None),
        lambda r, t: seen.append(r.body),
        lambda: None,
    )
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if start < end:
            parser.feed(raw[start:end])
    assert seen == [body, body]


@given(st.lists(WIRE, min_size=1, max_size=20))
def test_the_server_answers_garbage_with_problems_and_the_next_client_is_served(clients: list[list[bytes]]) -> None:
    failed, echo = asyncio.run(_throw(clients))
    assert failed == 0
    assert echo == b"still here"


async def _throw(clients: list[list[bytes]]) -> tuple[int, bytes]:
    """Throw it all; how often the server failed, and what the next client is answered."""
    with tempfile.TemporaryDirectory(prefix="ec") as folder:
        async with serving(Path(folder), QUICK) as shop:
            shop.shop.hold.set()
            for pieces in clients:
                await _throw_one(shop, pieces)
            good = await shop.client()
            echo = (await good.ask(post("/echo", b"still here")))[2]
            await good.close()
            return shop.server.stats.failed, echo


async def _throw_one(shop: Open, pieces: list[bytes]) -> None:
    client = await shop.client()
    client.send(b"".join(pieces))
    client.writer.write_eof()
    answer = await _rest(client)
    await client.close()
    while answer:
        head, _, answer = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status == 100:
            continue
        size = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))[16:])
        body, answer = answer[:size], answer[size:]
        if status >= 400:
            assert json.loads(body)["status"] == status


async def _rest(client: RawClient) -> bytes:
    async with asyncio.timeout(5):
        try:
            return await client.reader.read()
        except ConnectionError:
            return b""
