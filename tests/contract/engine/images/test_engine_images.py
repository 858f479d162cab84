"""Images: the digest that was checked is what runs, and nothing but the gateway's own is cleaned up."""

from __future__ import annotations

import asyncio
import re
import secrets
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.domain.dockerfile import BuildHow
from agent.domain.imageref import mark_tag
from agent.engine.images import DockerImages
from agent.errors import Conflict, Failed, GatewayError, Malformed, NotFound, TimedOut, Unreachable
from agent.registry.client import RegistryClient
from tests.contract.engine.images.shelves import RealShelf, Shelf, no_progress
from tests.contract.engine.rig import docker
from tests.faults.registry import Fault, FaultRegistry


async def test_a_tag_is_pinned_to_the_registrys_digest_and_pulled_by_it(shelf: Shelf) -> None:
    digest = await shelf.publish("1.0", "one")
    ref = f"{shelf.repository}:1.0"
    pinned = await shelf.images.pin(ref)
    assert pinned == f"{shelf.repository}@{digest}"
    assert await shelf.images.pin(pinned) == pinned
    assert await shelf.images.find(pinned) is None
    image = await shelf.images.pull(pinned, no_progress)
    assert pinned in image.digests
    assert image.id.startswith("sha256:")
    assert image.size_bytes > 0
    assert await shelf.images.pull(pinned, no_progress) == image
    assert await shelf.images.find(pinned) == image
    assert await shelf.images.pin(image.id) == image.id
    assert image.id in [i.id for i in await shelf.images.list()]
    await shelf.images.remove(pinned)
    assert await shelf.images.find(pinned) is None


async def test_a_moved_tag_does_not_change_what_was_pinned(shelf: Shelf) -> None:
    await shelf.publish("1.0", "one")
    pinned = await shelf.images.pin(f"{shelf.repository}:1.0")
    await shelf.publish("1.0", "two")
    assert await shelf.images.pin(f"{shelf.repository}:1.0") != pinned
    assert pinned in (await shelf.images.pull(pinned, no_progress)).digests


async def test_an_image_that_only_the_gateway_has_is_pinned_to_its_id(shelf: Shelf) -> None:
    ref = await shelf.add("local:1")
    found = await shelf.images.find(ref)
    assert found is not None
    assert await shelf.images.pin(ref) == found.id
    assert await shelf.images.pull(found.id, no_progress) == found


async def test_an_image_that_nobody_has_is_not_found(shelf: Shelf) -> None:
    for call in (
        shelf.images.pin(f"{shelf.repository}:none"),
        shelf.images.pull(f"{shelf.repository}@sha256:{'0' * 64}", no_progress),
        shelf.images.remove(f"{shelf.repository}:none"),
        shelf.images.push(f"{shelf.repository}:none", no_progress),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.code == "image.not_found"


async def test_what_was_pushed_can_be_pinned(shelf: Shelf) -> None:
    ref = await shelf.add("mine:1")
    if isinstance(shelf, RealShelf):
        docker("tag", ref, f"{shelf.repository}:2.0")
    else:
        shelf.fake.add(f"{shelf.repository}:2.0")
    digest = await shelf.images.push(f"{shelf.repository}:2.0", no_progress)
    assert digest.startswith("sha256:")
    assert await shelf.images.pin(f"{shelf.repository}:2.0") == f"{shelf.repository}@{digest}"


async def test_saved_images_can_be_loaded_elsewhere(shelf: Shelf, tmp_path: Path) -> None:
    ref = await shelf.add("carried:1")
    before = await shelf.images.find(ref)
    assert before is not None
    size_bytes = await shelf.images.save([ref], str(tmp_path / "a.tar"))
    assert size_bytes > 0
    await shelf.images.remove(ref)
    assert await shelf.images.find(ref) is None
    assert await shelf.images.load(str(tmp_path / "a.tar")) == [ref]
    assert await shelf.images.find(ref) == before
    with pytest.raises(Malformed) as caught:
        await shelf.images.load(str(tmp_path / "none.tar"))
    assert caught.value.code == "image.archive_not_found"


async def two_and_anothers(shelf: Shelf) -> list[str]:
    """Two images that were pulled here, and one that somebody else made."""
    names = []
    for tag in ("1.0", "1.1"):
        await shelf.publish(tag, f"content of {tag}")
        names.append(await shelf.images.pin(f"{shelf.repository}:{tag}"))
        await shelf.images.pull(names[-1], no_progress)
    return [*names, await shelf.add("local:1")]


async def test_prune_keeps_what_is_named(shelf: Shelf) -> None:
    kept, gone, local = await two_and_anothers(shelf)
    assert await shelf.images.prune(lambda: [kept]) > 0
    assert await shelf.images.find(kept) is not None
    assert await shelf.images.find(gone) is None
    assert await shelf.images.find(local) is not None


async def test_prune_takes_nothing_where_all_of_it_is_not_enough(shelf: Shelf) -> None:
    kept, gone, _ = await two_and_anothers(shelf)
    assert await shelf.images.prune(lambda: [kept], 10 * 1024**4) == 0
    assert await shelf.images.find(gone) is not None
    assert await shelf.images.prune(lambda: [kept], 1) > 0
    assert await shelf.images.find(gone) is None


async def test_what_is_needed_is_asked_before_each_removal(shelf: Shelf) -> None:
    first, second, _ = await two_and_anothers(shelf)
    asked: list[int] = []

    def keep() -> list[str]:
        # A job began meanwhile, found both, and relies on them.
        asked.append(1)
        return [] if len(asked) == 1 else [first, second]

    await shelf.images.prune(keep)
    assert len(asked) > 1
    assert [await shelf.images.find(name) for name in (first, second)] != [None, None]


async def test_what_a_clean_up_is_just_removing_is_brought_again_to_who_pulls_it(shelf: Shelf) -> None:
    pinned, *_ = await two_and_anothers(shelf)
    pulling: list[asyncio.Task[Any]] = []

    def keep() -> list[str]:
        # Too late to be kept: what is needed was asked, and the removal follows.
        if not pulling:
            pulling.append(asyncio.ensure_future(shelf.images.pull(pinned, no_progress)))
        return []

    assert await shelf.images.prune(keep) > 0
    image = await pulling[0]
    assert await shelf.images.find(pinned) == image


async def test_only_a_full_disk_is_tidied_and_what_is_kept_or_anothers_stays(shelf: Shelf) -> None:
    kept, gone, local = await two_and_anothers(shelf)
    assert await shelf.images.tidy(lambda: [kept], idle=lambda: True) == 0
    assert await shelf.images.find(gone) is not None
    shelf.fill()
    assert await shelf.images.tidy(lambda: [kept], idle=lambda: True) > 0
    found = [await shelf.images.find(name) is not None for name in (kept, gone, local)]
    assert found == [True, False, True]


async def test_a_pull_tells_bytes_and_leaves_a_tag_that_people_see(real: RealShelf) -> None:
    digest = await real.publish("1.0", secrets.token_hex(8))
    told: list[tuple[int, int, str]] = []
    image = await real.images.pull(f"{real.repository}@{digest}", lambda *t: told.append(t))
    assert image.tags == (f"{real.repository}:{mark_tag(digest, real.mark)}",)
    assert told[-1][0] == told[-1][1] > 100_000
    assert [t[0] for t in told] == sorted(t[0] for t in told)


async def test_an_image_that_a_container_uses_is_neither_removed_nor_pruned(real: RealShelf) -> None:
    digest = await real.publish("1.0", "one")
    pinned = f"{real.repository}@{digest}"
    image = await real.images.pull(pinned, no_progress)
    container = docker("create", "--network", "none", image.id, "true")
    try:
        assert await real.images.prune(list) == 0
        with pytest.raises(Conflict) as caught:
            await real.images.remove(pinned)
        assert caught.value.code == "image.in_use"
        assert await real.images.find(pinned) == image
    finally:
        docker("rm", container)
    assert await real.images.prune(list) == image.size_bytes


async def test_a_name_that_is_none_is_refused_before_anything_is_asked(real: RealShelf) -> None:
    for bad in ("Upper/Case:1", "a b", "x:y:z", "", "-x", "x@sha256:12"):
        with pytest.raises(Malformed) as caught:
            await real.images.pin(bad)
        assert caught.value.code == "image.bad_reference"


# -- the registry's bad days --------------------------------------------------------------------------------------


@pytest.fixture
def faulty(real: RealShelf) -> Iterator[FaultRegistry]:
    with FaultRegistry() as made:
        yield made


async def prepare(real: RealShelf, faulty: FaultRegistry) -> str:
    """An image of the real registry, moved to the faulty one; its pinned name there."""
    await real.publish("1.0", secrets.token_hex(8))
    digest = await asyncio.to_thread(faulty.copy_from, real.registry.address, f"{real.stem}/pump", "1.0")
    return f"{faulty.address}/{real.stem}/pump@{digest}"


async def test_a_registry_that_is_down_for_a_moment_is_asked_again(real: RealShelf, faulty: FaultRegistry) -> None:
    pinned = await prepare(real, faulty)
    faulty.plan(Fault.UNAVAILABLE, match="/manifests/")
    faulty.plan(Fault.UNAVAILABLE, match="/blobs/")
    faulty.plan(Fault.BUSY, match="/blobs/")
    assert pinned in (await real.images.pull(pinned, no_progress)).digests


async def test_a_registry_that_stays_down_is_named_and_nothing_is_left(real: RealShelf, faulty: FaultRegistry) -> None:
    pinned = await prepare(real, faulty)
    faulty.plan(Fault.UNAVAILABLE, times=-1)
    with pytest.raises(Unreachable) as caught:
        await real.images.pull(pinned, no_progress)
    assert caught.value.code == "image.registry_unreachable"
    assert "503" in caught.value.message
    assert await real.images.find(pinned) is None


async def test_damaged_bytes_are_never_an_image(real: RealShelf, faulty: FaultRegistry) -> None:
    pinned = await prepare(real, faulty)
    faulty.plan(Fault.FLIP, match="/blobs/", times=-1)
    with pytest.raises(GatewayError) as caught:
        await real.images.pull(pinned, no_progress)
    assert caught.value.code == "image.corrupt"
    assert await real.images.find(pinned) is None


async def test_a_transfer_that_stands_still_is_given_up_and_tried_again(real: RealShelf, faulty: FaultRegistry) -> None:
    pinned = await prepare(real, faulty)
    faulty.plan(Fault.HANG, match="/blobs/", times=-1)
    with pytest.raises(TimedOut) as caught:
        await real.images.pull(pinned, no_progress)
    assert caught.value.code == "image.stalled"
    assert sum("/blobs/" in a.path for a in faulty.asked) >= 2
    faulty.forgive()
    assert pinned in (await real.images.pull(pinned, no_progress)).digests


async def test_a_cancelled_pull_ends_at_once(real: RealShelf, faulty: FaultRegistry) -> None:
    pinned = await prepare(real, faulty)
    faulty.plan(Fault.HANG, match="/blobs/", times=-1, after=1000)
    begun = asyncio.Event()
    pull = asyncio.ensure_future(real.images.pull(pinned, lambda *_: begun.set()))
    async with asyncio.timeout(10):
        await begun.wait()
    began = time.monotonic()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert time.monotonic() - began < 1.0


# -- building -----------------------------------------------------------------------------------------------------


async def on_what_is_here(real: RealShelf, folder: Path, **how: Any) -> BuildHow:
    """The bases of a Dockerfile by their ids."""
    asked = BuildHow(**how)
    found = {name: await real.images.find(name) for name in await real.images.bases(str(folder), asked)}
    return replace(asked, bases={name: image.id for name, image in found.items() if image is not None})


async def test_a_folder_is_built_without_what_is_ignored(real: RealShelf, tmp_path: Path) -> None:
    base = await real.add("base:1")
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY . /data/\nRUN ls /data > /data/listing\n")
    (tmp_path / ".dockerignore").write_text("# not these\nsecret.txt\n")
    (tmp_path / "app.py").write_text("print()")
    (tmp_path / "secret.txt").write_text("x")
    told: list[str] = []
    tag = f"{real.stem}/built:1"
    how = await on_what_is_here(real, tmp_path)
    image = await real.images.build(str(tmp_path), tag, lambda _d, _t, what: told.append(what), how)
    assert image.tags == (tag,)
    assert any(line.startswith("Step 2/") and "COPY" in line for line in told)
    listing = docker("run", "--rm", "--network", "none", tag, "cat", "/data/listing").split()
    assert "app.py" in listing
    assert "secret.txt" not in listing


async def test_a_build_has_no_network_and_a_failing_step_is_told_in_its_words(real: RealShelf, tmp_path: Path) -> None:
    base = await real.add("base:1")
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nRUN ls /sys/class/net && echo it went wrong && false\n")
    told: list[str] = []
    how = await on_what_is_here(real, tmp_path)
    with pytest.raises(Failed) as caught:
        await real.images.build(str(tmp_path), f"{real.stem}/bad:1", lambda _d, _t, what: told.append(what), how)
    assert caught.value.code == "image.build_failed"
    assert "it went wrong" in caught.value.hint
    assert "lo" in told
    assert "eth0" not in told
    assert await real.images.find(f"{real.stem}/bad:1") is None


async def test_a_build_that_fails_leaves_no_image_of_the_steps_before(real: RealShelf, tmp_path: Path) -> None:
    base = await real.add("base:1")
    (tmp_path / "mine").write_text(real.stem)
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY mine /\nRUN echo {real.stem} > /more\nRUN false\n")
    how = await on_what_is_here(real, tmp_path)
    told: list[str] = []
    with pytest.raises(Failed):
        await real.images.build(str(tmp_path), f"{real.stem}/bad:1", lambda _d, _t, what: told.append(what), how)
    steps = [line.removeprefix(" ---> ") for line in told if re.fullmatch(" ---> [0-9a-f]{12}", line)]
    assert len(steps) == 3
    assert await real.images.find(base) is not None
    here = docker("images", "-a", "-q").split()
    assert [step for step in steps[1:] if step in here] == []


@pytest.mark.parametrize("kind", ["noise", "foreign", "cut"])
async def test_a_file_that_is_no_whole_archive_is_wrong_input(real: RealShelf, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given.tar"
    if kind == "noise":
        path.write_bytes(b"not a tar" * 100)
    elif kind == "foreign":
        with tarfile.open(path, "w") as tar:
            tar.add(__file__, "notes.txt")
    else:
        await real.images.save([await real.add("carried:1")], str(path))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Malformed) as caught:
        await real.images.load(str(path))
    assert caught.value.code == "image.bad_archive"
    assert str(path) in caught.value.message


@pytest.mark.parametrize("line", ["RAN echo", "COPY", "ENV LONELY"])
async def test_a_dockerfile_that_cannot_be_read_is_wrong_input(real: RealShelf, tmp_path: Path, line: str) -> None:
    base = await real.add("base:1")
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\n{line}\n")
    how = await on_what_is_here(real, tmp_path)
    with pytest.raises(Malformed) as caught:
        await real.images.build(str(tmp_path), f"{real.stem}/bad:1", no_progress, how)
    assert (caught.value.code, caught.value.exit_code) == ("image.bad_dockerfile", 2)
    assert line.partition(" ")[0] in caught.value.message
    assert caught.value.hint == "mend the Dockerfile"


async def test_a_build_takes_another_dockerfile_its_arguments_and_a_stage(real: RealShelf, tmp_path: Path) -> None:
    base = await real.add("base:1")
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "Dockerfile.small").write_text(
        f"ARG BASE=none\nFROM $BASE AS first\nARG WORD\nRUN echo $WORD > /word\n"
        f"FROM {base} AS second\nCOPY --from=first /word /copied\nCOPY --from={base} /bin/busybox /other\nFROM first AS last\n"
    )
    told = {"dockerfile": "image/Dockerfile.small", "args": {"BASE": base, "WORD": "hello"}}
    for target, path in (("first", "/word"), ("second", "/copied")):
        how = await on_what_is_here(real, tmp_path, **told, target=target)
        tag = f"{real.stem}/built:{target}"
        await real.images.build(str(tmp_path), tag, no_progress, how)
        assert docker("run", "--rm", "--network", "none", tag, "cat", path).strip() == "hello"


async def test_a_folder_without_a_dockerfile_is_named(real: RealShelf, tmp_path: Path) -> None:
    with pytest.raises(Malformed) as caught:
        await real.images.build(str(tmp_path), f"{real.stem}/none:1", no_progress, BuildHow())
    assert caught.value.code == "image.no_dockerfile"
    assert str(tmp_path) in caught.value.message


async def test_an_engine_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    images = DockerImages(str(tmp_path / "no.sock"), RegistryClient(tmp_path / "blobs"))
    with pytest.raises(Unreachable) as caught:
        await images.list()
    assert caught.value.code == "engine.unreachable"
    assert "systemctl start docker" in caught.value.hint
    images.close()
