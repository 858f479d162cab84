"""The command line's client: answers, streams, and an error that says what to do when nobody is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from agent.errors import Refused, TimedOut, Unreachable
from agent.http.client import Event, UnixClient
from tests.fakes.http_shop import Open

T = TypeVar("T")


async def off(call: Callable[..., T], *arguments: object, **more: object) -> T:
    """In a thread: the server runs on this loop."""
    return await asyncio.to_thread(call, *arguments, **more)


async def test_json_and_text_come_back_and_a_refusal_is_an_answer(shop: Open) -> None:
    client = UnixClient(shop.path)
    assert (await off(client.request, "GET", "/query?a=1")).body == [["a", "1"]]
    assert (await off(client.request, "POST", "/echo", {"b": 2})).body == '{"b": 2}'
    refused = await off(client.request, "GET", "/refused")
    assert (refused.status, refused.body["code"]) == (403, "shop.closed")


async def test_a_body_that_is_refused_in_mid_sentence_still_gets_its_answer(shop: Open) -> None:
    assert (await off(UnixClient(shop.path).request, "POST", "/echo", "x" * 3_000_000)).status == 413


async def test_a_stream_is_iterated_and_a_refused_one_raises(shop: Open) -> None:
    client = UnixClient(shop.path)

    def read() -> list[Event]:
        stream = client.stream("/stream")
        events = [next(stream) for _ in range(3)]
        stream.close()
        return events

    assert await off(read) == [Event("tick", number, str(number)) for number in range(3)]
    with pytest.raises(Refused) as caught:
        await off(next, client.stream("/refused"))
    assert (caught.value.code, caught.value.hint) == ("shop.closed", "come back tomorrow")
    assert caught.value.fields["day"] == "sunday"


async def test_nobody_there_is_unreachable_and_silence_is_timed_out(shop: Open, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="ecgw run"):
        await off(UnixClient(tmp_path / "none.sock").request, "GET", "/")
    with pytest.raises(TimedOut):
        await off(UnixClient(shop.path).request, "GET", "/hold", timeout_s=0.1)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "speaks no HTTP"),
    ],
)
async def test_an_answer_that_breaks_off_or_is_none_is_unreachable(raw: bytes, said: str, short_dir: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_unix_server(answer, short_dir / "s")
    async with server:
        with pytest.raises(Unreachable, match=said):
            await off(UnixClient(short_dir / "s").request, "GET", "/")
