"""What a hostile or broken registry may answer, or hold: a failure in words, in bounded time."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path
from typing import IO, cast

import pytest
import zstandard

from agent.domain.imageplan import Blob, ImagePlan, Layer, Packing
from agent.engine.imagetar import Cargo, write_archive
from agent.engine.transfer import until
from agent.errors import Failed
from agent.registry.auth import read_token
from agent.registry.client import RegistryClient

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"token": ' + b"1" * 5000 + b"}", b'{"token": "a\\r\\nb"}', b"\xff"]
)
def test_a_token_that_is_none_is_no_token(body: bytes) -> None:
    assert read_token(body) == ""


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "", "²"])
async def test_a_file_whose_length_is_no_number_is_refused(tmp_path: Path, length: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/{length}\r\nContent-Length: 1\r\n\r\nx"
        writer.write(head.encode("latin-1"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = RegistryClient(tmp_path)
    async with asyncio.timeout(20):
        with pytest.raises(Failed) as caught:
            await client.fetch_file(f"http://127.0.0.1:{port}/pump.bundle", DIGEST, lambda done, total, what: None)
    assert caught.value.code == "bundle.url"
    client.close()
    server.close()


class Endless(io.RawIOBase):
    """A packed layer that never ends: as one does, for any patience, that unpacks to a thousand times its size."""

    FRAME = zstandard.ZstdCompressor().compress(bytes(1024**2))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.FRAME * max(1, size // len(self.FRAME))


def test_a_layer_that_unpacks_for_ever_ends_when_nobody_waits_for_it() -> None:
    layer = Layer(Blob(DIGEST, 1000), Packing.ZSTD, DIGEST)
    plan = ImagePlan(DIGEST, DIGEST, b"{}", DIGEST, b"{}", (layer,))
    cargo = Cargo(plan, "x:1", 0, True, lambda digest: cast("IO[bytes]", Endless()))
    stop = threading.Event()
    ended: list[Failed] = []

    def send() -> None:
        try:
            for _ in until(stop, write_archive(cargo)):
                pass
        except Failed as error:
            ended.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    stop.set()
    thread.join(10)
    assert [error.code for error in ended] == ["image.stopped"]
