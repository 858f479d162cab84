"""Archives on their way to and from an engine that takes its time: what is cancelled ends, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.engine.archive import load, measure_load, save
from agent.engine.client import EngineClient
from agent.errors import Malformed

MIB = 1024**2
VERSION = b'{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}'


class SlowEngine:
    """Takes, or gives, one MiB of an archive, and goes on with the rest when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.taken_bytes = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                if b"/version" in line:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(VERSION) + VERSION)
                elif b"/images/load" in line:
                    await self._take(reader)
                else:
                    await self._give(writer)
        self.ended.set()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1

    async def _take(self, reader: asyncio.StreamReader) -> None:
        self.taken_bytes += len(await reader.readexactly(MIB))
        self.begun.set()
        await self.go_on.wait()
        while piece := await reader.read(MIB):
            self.taken_bytes += len(piece)

    async def _give(self, writer: asyncio.StreamWriter) -> None:
        chunk = b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        await writer.drain()
        self.begun.set()
        await self.go_on.wait()
        writer.write(chunk + b"0\r\n\r\n")
        await writer.drain()


@pytest.fixture
async def engine(short_dir: Path) -> AsyncIterator[SlowEngine]:
    made = SlowEngine()
    server = await asyncio.start_unix_server(made.serve, short_dir / "e.sock")
    yield made
    made.go_on.set()
    server.close()
    async with asyncio.timeout(20):
        while made.open:
            await asyncio.sleep(0.01)


@pytest.fixture
async def client(engine: SlowEngine, short_dir: Path) -> AsyncIterator[EngineClient]:
    made = EngineClient(str(short_dir / "e.sock"))
    yield made
    made.close()


async def test_a_load_that_is_cancelled_sends_no_whole_archive(
    engine: SlowEngine, client: EngineClient, tmp_path: Path
) -> None:
    path = tmp_path / "images.tar"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    loading = asyncio.create_task(load(client, path, 30.0))
    async with asyncio.timeout(20):
        await engine.begun.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        engine.go_on.set()
        await engine.ended.wait()
    assert MIB <= engine.taken_bytes < 32 * MIB


async def test_a_save_that_is_cancelled_leaves_no_archive_later(
    engine: SlowEngine, client: EngineClient, tmp_path: Path
) -> None:
    saving = asyncio.create_task(save(client, ["a:1"], tmp_path / "images.tar", 30.0))
    async with asyncio.timeout(20):
        await engine.begun.wait()
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        engine.go_on.set()
        while list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


async def test_a_save_that_is_cancelled_takes_nothing_from_the_next_one_to_the_same_place(
    engine: SlowEngine, client: EngineClient, tmp_path: Path
) -> None:
    path = tmp_path / "images.tar"
    saving = asyncio.create_task(save(client, ["a:1"], path, 30.0))
    async with asyncio.timeout(20):
        # Its thread has written what there is, and waits for more.
        while sum(each.stat().st_size for each in tmp_path.iterdir()) < MIB:
            await asyncio.sleep(0.01)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        again = asyncio.create_task(save(client, ["a:1"], path, 30.0))
        while len(list(tmp_path.iterdir())) < 2:
            await asyncio.sleep(0.01)
        engine.go_on.set()
        assert await again == 2 * MIB
        while len(list(tmp_path.iterdir())) > 1:
            await asyncio.sleep(0.01)
    assert path.stat().st_size == 2 * MIB


async def test_a_pipe_in_the_place_of_an_archive_keeps_no_thread(client: EngineClient, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    measured: list[int] = []
    thread = threading.Thread(target=lambda: measured.append(measure_load(pipe)), daemon=True)
    thread.start()
    thread.join(10)
    assert measured == [0]
    with pytest.raises(Malformed, match="no ordinary file"):
        await load(client, pipe, 5.0)
