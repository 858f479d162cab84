"""Room on the engine's disk: looked for before a build or a load, and watched while a build's steps write."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from agent.domain.container import ImageInfo
from agent.domain.dockerfile import BuildHow
from agent.domain.space import MIB, UNPACKED_FACTOR, Watermarks
from agent.engine.archive import measure_load
from agent.errors import Failed, NoSpace
from tests.contract.engine.images.shelves import RealShelf
from tests.contract.engine.rig import docker

RESERVE_BYTES = Watermarks().reserve_bytes


async def prepare(real: RealShelf, folder: Path, step: str) -> BuildHow:
    """A folder with a Dockerfile of one step."""
    base = await real.add("base:1")
    (folder / "Dockerfile").write_text(f"FROM {base}\nRUN {step}\n")
    image = await real.images.find(base)
    assert image is not None
    return BuildHow(bases={base: image.id})


async def test_a_build_without_room_is_refused_with_numbers_before_its_first_step(
    real: RealShelf, tmp_path: Path
) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    how = await prepare(real, folder, "true")
    (folder / "bulk").write_bytes(b"x" * MIB)
    real.used_percent = 100
    told: list[str] = []
    with pytest.raises(NoSpace) as caught:
        await real.images.build(str(folder), f"{real.stem}/big:1", lambda _d, _t, what: told.append(what), how)
    assert told == []
    assert caught.value.fields["needed_bytes"] >= 2 * MIB
    assert (caught.value.fields["free_bytes"], caught.value.fields["reserve_bytes"]) == (0, RESERVE_BYTES)


async def test_a_build_whose_step_takes_up_the_reserve_is_stopped_and_its_container_goes(
    real: RealShelf, tmp_path: Path
) -> None:
    how = await prepare(real, tmp_path, f"echo {real.stem} is filling; sleep 120")
    tag = f"{real.stem}/filling:1"

    def fill_up(done: int, total: int, what: str) -> None:
        if what == f"{real.stem} is filling":
            real.used_percent = 100

    async with asyncio.timeout(30):
        with pytest.raises(Failed) as caught:
            await real.images.build(str(tmp_path), tag, fill_up, how)
        assert (caught.value.code, caught.value.retryable) == ("image.build_too_large", False)
        assert caught.value.fields["free_bytes"] == 0
        while real.stem in await asyncio.to_thread(docker, "ps", "-a", "--no-trunc", "--format", "{{.Command}}"):
            await asyncio.sleep(0.1)
    assert await real.images.find(tag) is None


async def test_an_archive_without_room_is_refused_before_a_byte_is_sent(real: RealShelf, tmp_path: Path) -> None:
    name = await real.add("kept:1")
    path = tmp_path / "kept.tar"
    size_bytes = await real.images.save([name], str(path))
    await real.images.remove(name)
    real.used_percent = 100
    with pytest.raises(NoSpace) as caught:
        await real.images.load(str(path))
    assert caught.value.fields["needed_bytes"] == 2 * size_bytes
    assert await real.images.find(name) is None
    real.used_percent = 50
    assert await real.images.load(str(path)) == [name]
    assert isinstance(await real.images.find(name), ImageInfo)


def test_a_packed_archive_counts_as_what_it_becomes(tmp_path: Path) -> None:
    path = tmp_path / "packed.tar.gz"
    path.write_bytes(gzip.compress(b"x" * MIB))
    assert measure_load(path) == 2 * UNPACKED_FACTOR * path.stat().st_size
    assert measure_load(tmp_path / "none") == 0
