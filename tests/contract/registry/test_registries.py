"""What the fetcher promises with any registry."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.imageplan import Blob
from agent.domain.imageref import read_ref
from agent.domain.platform import Platform
from agent.errors import NotFound, Refused
from agent.registry.client import RegistryClient
from tests.contract.registry.shelves import RealShelf, Shelf
from tests.faults.oci import digest_of, make_layer
from tests.faults.registry import Fault, FaultRegistry

AMD64 = Platform("amd64")


def no_progress(done: int, total: int, what: str) -> None:
    """Nobody looks."""


def read_blob(client: RegistryClient, digest: str) -> bytes:
    with client.open(digest) as blob:
        return blob.read()


@pytest.fixture(params=["fault", pytest.param("real", marks=pytest.mark.registry)])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Shelf]:
    if request.param == "real":
        yield RealShelf(request.getfixturevalue("registry"))
        return
    with FaultRegistry() as made:
        yield made


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[RegistryClient]:
    made = RegistryClient(tmp_path / "blobs")
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    return f"test-{secrets.token_hex(4)}/pump"


async def test_a_tag_leads_to_a_digest_and_the_digest_to_checked_content(
    shelf: Shelf, client: RegistryClient, name: str
) -> None:
    layers = [make_layer({"one": secrets.token_bytes(300_000)}), make_layer({"two": b"2"})]
    digest = await asyncio.to_thread(shelf.put_image, name, "1.0", layers)
    assert await client.resolve(read_ref(f"{shelf.address}/{name}:1.0")) == digest
    ref = read_ref(f"{shelf.address}/{name}@{digest}")
    plan = await client.describe(ref, AMD64)
    assert plan.manifest_digest == plan.digest == digest
    assert [layer.diff_id for layer in plan.layers] == [layer.diff_id for layer in layers]
    told: list[tuple[int, int, str]] = []
    await client.fetch(ref, [layer.blob for layer in plan.layers], lambda *t: told.append(t))
    for made, layer in zip(layers, plan.layers, strict=True):
        assert await asyncio.to_thread(read_blob, client, layer.blob.digest) == made.blob
    whole = sum(len(layer.blob) for layer in layers)
    assert told[-1][:2] == (whole, whole)
    assert await asyncio.to_thread(client.records.image_ids, digest) == (plan.config_digest, digest)


async def test_an_index_leads_to_this_gateways_architecture(shelf: Shelf, client: RegistryClient, name: str) -> None:
    def put() -> tuple[str, dict[str, str]]:
        made = {
            platform: shelf.put_image(
                name, f"one-{number}", [make_layer({"x": platform.encode()})], architecture=platform[:5]
            )
            for number, platform in enumerate(("amd64", "arm64/v8"))
        }
        return shelf.put_index(name, "all", made), made

    index, made = await asyncio.to_thread(put)
    assert await client.resolve(read_ref(f"{shelf.address}/{name}:all")) == index
    ref = read_ref(f"{shelf.address}/{name}@{index}")
    assert (await client.describe(ref, Platform("arm64"))).manifest_digest == made["arm64/v8"]
    with pytest.raises(Refused) as caught:
        await client.describe(ref, Platform("arm", "v7"))
    assert caught.value.code == "image.no_platform"
    assert "amd64, arm64/v8" in caught.value.message


async def test_an_image_of_another_architecture_is_refused_before_its_layers_come(
    shelf: Shelf, client: RegistryClient, name: str
) -> None:
    layers = [make_layer({"x": b"foreign"})]
    digest = await asyncio.to_thread(shelf.put_image, name, "1.0", layers, architecture="arm64")
    ref = read_ref(f"{shelf.address}/{name}@{digest}")
    with pytest.raises(Refused, match="there is no image for amd64, only for arm64") as caught:
        await client.describe(ref, AMD64)
    assert caught.value.code == "image.no_platform"
    kept = await asyncio.to_thread(client.records.digests)
    assert kept == [], "nothing is left of what cannot run here"
    assert (await client.describe(ref, Platform("arm64", "v8"))).digest == digest


async def test_what_is_begun_goes_on_where_it_stopped_also_in_another_agent(
    shelf: Shelf, tmp_path: Path, name: str
) -> None:
    layer = make_layer({"one": secrets.token_bytes(300_000)})
    digest = await asyncio.to_thread(shelf.put_image, name, "1.0", [layer])
    folder = tmp_path / "blobs" / "sha256"
    folder.mkdir(parents=True)
    (folder / (digest_of(layer.blob)[7:] + ".part")).write_bytes(layer.blob[:200_000])
    client = RegistryClient(tmp_path / "blobs")
    ref = read_ref(f"{shelf.address}/{name}@{digest}")
    blob = Blob(digest_of(layer.blob), len(layer.blob))
    await client.fetch(ref, [blob], no_progress)
    client.close()
    assert [path.name for path in folder.iterdir()] == [blob.digest[7:]]
    if isinstance(shelf, FaultRegistry):
        assert shelf.sent_bytes() == len(layer.blob) - 200_000


async def test_progress_tells_bytes_and_in_the_end_all_of_them_with_a_rate(name: str, client: RegistryClient) -> None:
    layer = make_layer({"one": secrets.token_bytes(300_000)})
    with FaultRegistry() as registry:
        digest = registry.put_image(name, "1.0", [layer])
        registry.plan(Fault.SLOW, match=digest_of(layer.blob), rate=600_000)
        told: list[tuple[int, int, str]] = []
        ref = read_ref(f"{registry.address}/{name}@{digest}")
        await client.fetch(ref, [Blob(digest_of(layer.blob), len(layer.blob))], lambda *t: told.append(t))
    assert [t[0] for t in told] == sorted({t[0] for t in told})
    assert told[-1][:2] == (len(layer.blob), len(layer.blob))
    assert told[-1][2].startswith("downloading, ")
    assert told[-1][2].endswith(" MB/s")


async def test_what_is_not_there_is_not_found(shelf: Shelf, client: RegistryClient, name: str) -> None:
    layer = make_layer({"one": b"1"})
    digest = await asyncio.to_thread(shelf.put_image, name, "1.0", [layer])
    for call in (
        client.resolve(read_ref(f"{shelf.address}/{name}:none")),
        client.resolve(read_ref(f"{shelf.address}/none/at-all:1")),
        client.describe(read_ref(f"{shelf.address}/{name}@sha256:{'0' * 64}"), AMD64),
        client.fetch(read_ref(f"{shelf.address}/{name}@{digest}"), [Blob(f"sha256:{'1' * 64}", 5)], no_progress),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.code == "image.not_found"
