"""From the registry into the engine: the same image the engine would have brought, no byte twice, nothing half."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from agent.domain.container import ContainerSpec, RunState
from agent.domain.space import MIB, Disk, Watermarks
from agent.engine.docker import DockerEngine
from agent.engine.handover import Rooms
from agent.engine.images import DockerImages, ImageRules
from agent.errors import GatewayError, NoSpace, Refused
from agent.registry.client import Limits, RegistryClient
from tests.contract.engine.rig import docker
from tests.faults.oci import Layer, digest_of, make_layer
from tests.faults.registry import Fault, FaultRegistry

APPLETS = ("sh", "cat", "sleep", "true")
CONFIG = {"Cmd": ["cat", "/word"], "Env": ["PATH=/bin"]}
QUICK = Limits(stall_s=1.0, retry_waits_s=(0.05, 0.05))
Make = Callable[..., DockerImages]


def no_progress(done: int, total: int, what: str) -> None:
    """Nobody looks."""


def busybox_layer() -> Layer:
    """Busybox with a content of its own, so that no other test's image has this layer."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
            tar.addfile(link)
        entry = tarfile.TarInfo("own")
        entry.size = 16
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(16)))
    return make_layer({}, tar=archive.getvalue())


def word(text: str) -> Layer:
    return make_layer({"word": text.encode(), "bulk": secrets.token_bytes(150_000)})


@pytest.fixture
def registry(engine_socket: Path) -> Iterator[FaultRegistry]:
    with FaultRegistry() as made:
        yield made
    listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}@{{.ID}}").splitlines()
    ids = dict.fromkeys(row.partition("@")[2] for row in listed if row.startswith(made.address))
    for image_id in (*ids, *ids):
        subprocess.run(["docker", "image", "rm", "-f", image_id], check=False, capture_output=True, timeout=60)


@pytest.fixture
def make(engine_socket: Path, tmp_path: Path) -> Iterator[Make]:
    made: list[DockerImages] = []

    def make(limits: Limits = QUICK, **rules: Any) -> DockerImages:
        source = RegistryClient(tmp_path / "blobs", limits=limits)
        made.append(DockerImages(str(engine_socket), source, ImageRules(**{"mark": "t-handover", **rules})))
        return made[-1]

    yield make
    for images in made:
        images.close()


def put(registry: FaultRegistry, *layers: Layer, name: str = "pump", tag: str = "1") -> str:
    """The pinned name of an image that prints its word."""
    return f"{registry.address}/{name}@{registry.put_image(name, tag, layers, CONFIG)}"


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "blobs" / "sha256").glob("*"))


async def test_it_is_the_image_that_the_engine_would_have_brought(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    pinned = put(registry, busybox_layer(), word("one"))
    image = await make().pull(pinned, no_progress)
    facts = "{{.Id}} {{json .RootFS.Layers}} {{json .Config.Cmd}} {{json .Config.Env}}"
    ours = docker("image", "inspect", "--format", facts, image.id)
    assert docker("run", "--rm", "--network", "none", image.id) == "one"
    assert left(tmp_path) == []
    docker("image", "rm", "-f", image.id)
    await asyncio.to_thread(docker, "pull", "-q", pinned)
    assert docker("image", "inspect", "--format", facts, pinned) == ours


async def test_a_container_is_made_of_the_pinned_name_by_content_whatever_the_tags_say(
    registry: FaultRegistry, make: Make, engine_socket: Path, gateway_id: str, tmp_path: Path
) -> None:
    pinned, other = put(registry, busybox_layer(), word("one")), put(registry, busybox_layer(), word("two"), tag="2")
    images = make()
    image, wrong = [await images.pull(name, no_progress) for name in (pinned, other)]
    docker("tag", wrong.id, image.tags[0])
    records = RegistryClient(tmp_path / "blobs").records
    engine = DockerEngine(str(engine_socket), gateway_id, image_ids=records.image_ids)
    spec = ContainerSpec(f"{gateway_id}-c1", "pump", "main", "r1", pinned, gateway_id)
    container = await engine.create(spec)
    state = await engine.inspect(container)
    engine.close()
    assert state is not None
    assert state.image_id == image.id
    found = await images.find(pinned)
    assert found is not None
    assert found.id == image.id


async def test_it_is_on_the_engines_disk_before_what_was_fetched_is_dropped(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    kept: list[tuple[str, int, str]] = []

    async def sync(folder: str) -> None:
        here = await asyncio.to_thread(docker, "image", "ls", "-q", "--no-trunc", registry.address + "/pump")
        kept.append((folder, len(await asyncio.to_thread(left, tmp_path)), here))

    image = await make(rooms=Rooms(str(tmp_path), sync=sync)).pull(
        put(registry, busybox_layer(), word("one")), no_progress
    )
    assert kept == [(docker("info", "--format", "{{.DockerRootDir}}"), 2, image.id)]
    assert left(tmp_path) == []


async def test_a_second_version_fetches_only_the_layer_that_changed(registry: FaultRegistry, make: Make) -> None:
    base, first, second = busybox_layer(), word("one"), word("two")
    images = make()
    await images.pull(put(registry, base, first), no_progress)
    registry.asked.clear()
    told: list[tuple[int, int, str]] = []
    image = await images.pull(put(registry, base, second, tag="2"), lambda *t: told.append(t))
    layers = [a for a in registry.asked if a.sent_bytes > 10_000]
    assert [a.path.rpartition("/")[2] for a in layers] == [digest_of(second.blob)]
    assert sum(a.sent_bytes for a in layers) == len(second.blob) == told[-1][1]
    assert docker("run", "--rm", "--network", "none", image.id) == "two"


async def test_a_killed_fetch_fetches_only_the_rest(
    registry: FaultRegistry, make: Make, engine_socket: Path, tmp_path: Path
) -> None:
    base = busybox_layer()
    pinned = put(registry, base)
    registry.plan(Fault.SLOW, match=digest_of(base.blob), rate=2_000_000)
    code = (
        "import asyncio, pathlib, sys\n"
        "from agent.engine.images import DockerImages\n"
        "from agent.registry.client import RegistryClient\n"
        "images = DockerImages(sys.argv[1], RegistryClient(pathlib.Path(sys.argv[2])))\n"
        "asyncio.run(images.pull(sys.argv[3], print))\n"
    )
    argv = [sys.executable, "-c", code, str(engine_socket), str(tmp_path / "blobs"), pinned]
    child = await asyncio.to_thread(subprocess.Popen, argv, stdout=subprocess.DEVNULL)
    part = tmp_path / "blobs" / "sha256" / (digest_of(base.blob)[7:] + ".part")
    async with asyncio.timeout(30):
        while not (part.exists() and part.stat().st_size > 200_000):
            await asyncio.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    await asyncio.to_thread(child.wait)
    had = part.stat().st_size
    registry.forgive()
    registry.asked.clear()
    image = await make().pull(pinned, no_progress)
    assert registry.sent_bytes(digest_of(base.blob)) == len(base.blob) - had
    assert pinned in image.digests
    assert left(tmp_path) == []


async def test_a_flipped_bit_never_reaches_the_engine(registry: FaultRegistry, make: Make, tmp_path: Path) -> None:
    base = busybox_layer()
    pinned = put(registry, base)
    registry.plan(Fault.FLIP, match=digest_of(base.blob), times=-1)
    with pytest.raises(GatewayError) as caught:
        await make().pull(pinned, no_progress)
    assert caught.value.code == "image.corrupt"
    assert docker("image", "ls", "-q", f"{registry.address}/pump") == ""
    assert left(tmp_path) == []


async def test_space_is_looked_for_before_a_byte_is_fetched(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    base = busybox_layer()
    pinned = put(registry, base)
    for full in ("the state folder", "the engine's folder"):

        def measure(path: str, full: str = full) -> Disk:
            here = "the state folder" if path == str(tmp_path) else "the engine's folder"
            return Disk(1 if path == str(tmp_path) else 2, MIB if here == full else 2**50, 2**50)

        images = make(rooms=Rooms(str(tmp_path), measure), watermarks=Watermarks(reserve_bytes=MIB // 2))
        with pytest.raises(NoSpace) as caught:
            await images.pull(pinned, no_progress)
        assert caught.value.code == "image.no_space"
        assert full in caught.value.message
        assert caught.value.fields["where"] == full
        assert caught.value.fields["free_bytes"] == MIB
        assert caught.value.fields["reserve_bytes"] == MIB // 2
        assert caught.value.fields["needed_bytes"] >= len(base.blob)
    assert registry.sent_bytes(digest_of(base.blob)) == 0


@pytest.mark.parametrize(("spare", "error"), [(-1, Refused), (0, NoSpace)])
async def test_an_image_that_the_whole_disk_could_not_hold_is_refused_for_good_before_a_byte_is_fetched(
    registry: FaultRegistry, make: Make, tmp_path: Path, spare: int, error: type[GatewayError]
) -> None:
    base = busybox_layer()
    pinned = put(registry, base)
    reserve = MIB // 2

    def measure(path: str) -> Disk:
        # In the state folder the image takes what its layer has, packed.
        small = path == str(tmp_path)
        return Disk(1 if small else 2, 0 if small else 2**50, len(base.blob) + reserve + spare if small else 2**50)

    images = make(rooms=Rooms(str(tmp_path), measure), watermarks=Watermarks(reserve_bytes=reserve))
    with pytest.raises(error) as caught:
        await images.pull(pinned, no_progress)
    assert caught.value.retryable is (error is NoSpace)
    assert caught.value.fields["needed_bytes"] == len(base.blob)
    if error is Refused:
        assert (caught.value.code, caught.value.fields["total_bytes"]) == (
            "image.too_large",
            len(base.blob) + reserve - 1,
        )
    assert registry.sent_bytes(digest_of(base.blob)) == 0


@pytest.mark.parametrize("engines", [True, False])
async def test_a_disk_that_fills_up_on_the_way_leaves_a_beginning_that_goes_on(
    registry: FaultRegistry, make: Make, tmp_path: Path, engines: bool
) -> None:
    """Images that go make room for it only where it is the engine's disk, too."""
    base = make_layer({"bulk": secrets.token_bytes(9 * MIB)})
    pinned = put(registry, base)
    folder = tmp_path / "blobs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6M", "none", str(folder)], check=True, timeout=10)

    def measure(path: str) -> Disk:
        return Disk(1 if engines or path == str(tmp_path) else 2, 2**50, 2**50)

    try:
        images = make(rooms=Rooms(str(tmp_path), measure))
        with pytest.raises(NoSpace) as caught:
            await images.pull(pinned, no_progress)
        assert caught.value.code == "image.no_space"
        assert caught.value.fields["where"] == "the state folder" + " and the engine's folder" * engines
        assert left(tmp_path) == [digest_of(base.blob)[7:] + ".part"]
        subprocess.run(["mount", "-o", "remount,size=32M", str(folder)], check=True, timeout=10)
        registry.asked.clear()
        assert pinned in (await images.pull(pinned, no_progress)).digests
        assert 0 < registry.sent_bytes(digest_of(base.blob)) < len(base.blob)
        assert left(tmp_path) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


async def test_a_layer_packed_with_zstd_is_unpacked_for_an_engine_that_cannot(
    registry: FaultRegistry, make: Make
) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("word")
        entry.size = 6
        archive.addfile(entry, io.BytesIO(b"packed"))
    layer = Layer(
        zstandard.compress(tar.getvalue()), digest_of(tar.getvalue()), "application/vnd.oci.image.layer.v1.tar+zstd"
    )
    image = await make().pull(put(registry, busybox_layer(), layer), no_progress)
    assert docker("run", "--rm", "--network", "none", image.id) == "packed"


async def test_above_the_high_mark_the_oldest_goes_and_never_what_is_kept(registry: FaultRegistry, make: Make) -> None:
    percent = [50]

    def measure(path: str) -> Disk:
        del path
        return Disk(1, 2**40 * (100 - percent[0]) // 100, 2**40)

    images = make(rooms=Rooms("/", measure), mark="t-" + secrets.token_hex(3))
    kept, gone = put(registry, busybox_layer()), put(registry, busybox_layer(), tag="2")
    for pinned in (kept, gone):
        await images.pull(pinned, no_progress)
    assert await images.tidy(lambda: [kept], idle=lambda: False) == 0
    percent[0] = 90
    assert await images.tidy(lambda: [kept], idle=lambda: False) > 0
    assert await images.find(kept) is not None
    assert await images.find(gone) is None


async def test_saved_by_its_pinned_name_it_can_be_loaded_elsewhere(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    pinned = put(registry, busybox_layer(), word("one"))
    images = make()
    image = await images.pull(pinned, no_progress)
    await images.save([pinned], str(tmp_path / "a.tar"))
    await images.remove(pinned)
    assert await images.find(pinned) is None
    assert await images.load(str(tmp_path / "a.tar")) == list(image.tags)
    assert await images.find(pinned) == image


def tear(kind: str, name: str) -> None:
    """What a power cut may leave of the layer that lies on top: the engine never syncs the file that names those below."""
    upper = docker(kind, "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", name)
    os.truncate(Path(upper).parent / "lower", 0)


async def test_an_image_damaged_by_a_power_cut_is_not_here_and_is_brought_anew(
    registry: FaultRegistry, make: Make
) -> None:
    pinned = put(registry, busybox_layer(), word("one"))
    images = make()
    tear("image", (await images.pull(pinned, no_progress)).id)
    assert await images.find(pinned) is None
    other = await images.pull(put(registry, busybox_layer(), word("two"), tag="2"), no_progress)
    assert docker("run", "--rm", "--network", "none", other.id) == "two"
    image = await images.pull(pinned, no_progress)
    assert docker("run", "--rm", "--network", "none", image.id) == "one"
    assert await images.prune(lambda: ()) == image.size_bytes + other.size_bytes


async def test_a_container_damaged_by_a_power_cut_is_listed_as_dead_and_can_be_made_anew(
    registry: FaultRegistry, make: Make, engine_socket: Path, gateway_id: str, tmp_path: Path
) -> None:
    pinned = put(registry, busybox_layer(), word("one"))
    image = await make().pull(pinned, no_progress)
    engine = DockerEngine(
        str(engine_socket), gateway_id, image_ids=RegistryClient(tmp_path / "blobs").records.image_ids
    )
    spec = ContainerSpec(f"{gateway_id}-c1", "pump", "main", "r1", pinned, gateway_id)
    made = await engine.create(spec)
    tear("container", made)
    (seen,) = await engine.containers("pump")
    assert (seen.id, seen.name, seen.service, seen.spec, seen.serving) == (made, spec.name, "main", "", False)
    assert seen.state is RunState.DEAD
    await engine.remove(made)
    again = await engine.create(spec)
    await engine.start(again)
    (seen,) = await engine.containers("pump")
    assert (seen.spec, seen.image_id) == (spec.spec_hash, image.id)
    tear("image", image.id)
    await engine.remove(again)
    with pytest.raises(GatewayError) as caught:
        await engine.create(spec)
    assert (caught.value.code, caught.value.retryable) == ("engine.torn", True)
    engine.close()
