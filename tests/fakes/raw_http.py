"""A client that sends any bytes it is told to, for tests of the HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


class RawClient:
    """One connection to the Unix socket at `path`; every wait has a deadline of five seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, path: Path) -> RawClient:
        return cls(*await asyncio.open_unix_connection(str(path)))

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def ask(self, raw: bytes) -> Answer:
        self.send(raw)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next response: status, headers by lower-case name, body."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            start, *fields = head[:-4].split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(start.split(" ")[1]), headers, body

    async def at_end(self) -> bool:
        """True when the server closes; whatever it still says is thrown away."""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                await self.reader.read()
        return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def problem_of(answer: Answer) -> dict[str, Any]:
    """The problem document of a refusal, after checking that it is one."""
    status, headers, body = answer
    problem: dict[str, Any] = json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["code"]
    assert problem["title"]
    return problem
