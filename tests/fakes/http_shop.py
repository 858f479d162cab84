"""A server with one handler of every kind, for tests of the HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.errors import Refused
from agent.http.limits import Limits
from agent.http.messages import Request, Response, Sink, Stream, json_response
from agent.http.router import Router
from agent.http.server import HttpServer, PeerCheck
from tests.fakes.raw_http import Answer, RawClient

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

    async def ask(self, raw: bytes) -> Answer:
        client = await self.client()
        try:
            return await client.ask(raw)
        finally:
            await client.close()


@asynccontextmanager
async def serving(folder: Path, limits: Limits | None = None, check: PeerCheck | None = None) -> AsyncIterator[Open]:
    """A shop that is open; on the way out everything it counted must be back at zero."""
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


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
