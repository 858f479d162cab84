"""What a hostile or broken registry may answer, or hold: a failure in words, in bounded time."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.imageplan import Blob, ImagePlan, Layer, Packing, read_diff_ids, read_manifest
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


WORDS = (
    "manifests",
    "config",
    "layers",
    "digest",
    "size",
    "mediaType",
    "urls",
    "platform",
    "os",
    "variant",
    "rootfs",
    "diff_ids",
)
ANYTHING = st.recursive(
    st.sampled_from((None, True, 0, 7, -1, 1e999, "", "linux", DIGEST, "application/vnd.oci.image.layer.v1.tar")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(WORDS), ANYTHING, max_size=4))
def test_whatever_a_registry_gives_as_a_manifest_or_configuration_is_read_or_refused(document: dict[str, Any]) -> None:
    body, codes = json.dumps(document).encode(), set()
    for read in (read_manifest, read_diff_ids):
        try:
            read(body, "pump:1")
        except Failed as error:
            codes.add(error.code)
    assert codes <= {"image.bad_manifest"}


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


def test_bytes_that_all_came_are_no_whole_answer_when_nobody_waits_by_then() -> None:
    stop = threading.Event()

    def all_but_too_late() -> Iterator[bytes]:
        yield b"all"
        stop.set()

    with pytest.raises(Failed) as caught:
        list(until(stop, all_but_too_late()))
    assert caught.value.code == "image.stopped"


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
