"""A broker without MQTT 5: it refuses, or just hangs up on, a CONNECT of version 5, and passes on all else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class OldBroker:
    """In front of a real broker's plain port. `connects` lists the protocol versions that were asked for."""

    def __init__(self, behind_port: int, *, says_why: bool) -> None:
        self._behind_port = behind_port
        self._says_why = says_why
        self.connects: list[int] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readexactly(9)  # type, length (one byte here), "MQTT" with its length, version
            self.connects.append(head[8])
            if head[8] == 5:
                if self._says_why:
                    writer.write(b"\x20\x02\x00\x01")  # CONNACK of 3.1.1: unacceptable protocol version
                    await writer.drain()
                return
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind_port)
            behind_writer.write(head)
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
