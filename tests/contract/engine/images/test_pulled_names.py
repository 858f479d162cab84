"""Names that people pulled images by: kept beside the engine, good for people's commands, and for nothing that runs."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.container import ImageInfo
from agent.engine.images import DockerImages
from agent.errors import Conflict
from agent.registry.client import RegistryClient
from tests.contract.engine.images.shelves import RealShelf, Shelf, no_progress
from tests.contract.engine.rig import docker
from tests.fakes.faults import Gate


async def test_what_was_pulled_by_a_name_is_saved_pushed_and_removed_by_it_and_runs_by_none(
    shelf: Shelf, tmp_path: Path
) -> None:
    old, name = await shelf.publish("1.0", "old"), f"{shelf.repository}:1.0"
    pinned = await shelf.images.pin(name)
    image = await shelf.images.pull(pinned, no_progress)
    await shelf.images.remember(name, pinned)
    await shelf.images.remember(f"{shelf.repository}:stable", pinned)
    found = await shelf.images.find(name)
    assert found == replace(image, names=found.names if found else ())
    assert set(found.names) == {name, f"{shelf.repository}:stable"}
    assert await shelf.images.save([name], str(tmp_path / "a.tar")) > 0
    assert await shelf.images.push(name, no_progress)
    after = await shelf.images.find(name)
    assert after is not None
    assert (after.id, after.tags) == (image.id, image.tags)
    await shelf.publish("1.0", "new")
    assert await shelf.images.pin(name) not in {image.id, f"{shelf.repository}@{old}"}
    await shelf.images.remove(name)
    assert await shelf.images.find(name) is None
    left = await shelf.images.find(f"{shelf.repository}:stable")
    assert left is not None
    assert left.id == image.id
    await shelf.images.remove(f"{shelf.repository}:stable")
    assert await shelf.images.find(pinned) is None


async def test_a_name_that_was_pulled_keeps_no_image_from_a_prune_and_outlives_a_restart(real: RealShelf) -> None:
    await real.publish("1.0", secrets.token_hex(8))
    name = f"{real.repository}:1.0"
    pinned = await real.images.pin(name)
    image = await real.images.pull(pinned, no_progress)
    await real.images.remember(name, pinned)
    docker("tag", image.id, f"{real.repository}:mine")
    again = DockerImages(str(real.socket), RegistryClient(real.folder), real.rules)
    await again.remove(name)
    kept = await again.find(f"{real.repository}:mine")
    again.close()
    assert kept is not None
    assert (kept.tags, kept.names) == ((f"{real.repository}:mine",), ())
    await real.images.remove(f"{real.repository}:mine")
    await real.images.pull(pinned, no_progress)
    await real.images.remember(name, pinned)
    assert await real.images.prune(list) > 0
    assert await real.images.tidy(list, idle=lambda: True) == 0
    assert await asyncio.to_thread(real.source.records.names) == {}


async def test_an_archive_of_what_was_pulled_by_a_name_holds_that_name(real: RealShelf, tmp_path: Path) -> None:
    await real.publish("1.0", secrets.token_hex(8))
    name = f"{real.repository}:1.0"
    pinned = await real.images.pin(name)
    await real.images.pull(pinned, no_progress)
    await real.images.remember(name, pinned)
    await real.images.save([name], str(tmp_path / "a.tar"))
    await real.images.remove(name)
    assert await real.images.load(str(tmp_path / "a.tar")) == [name]


class Held(DockerImages):
    """Looking for some images takes as long as a test wants: a save of several holds what was lent to it until then."""

    def __init__(self, shelf: RealShelf, *refs: str) -> None:
        super().__init__(str(shelf.socket), shelf.source, shelf.rules)
        self.gates = {ref: Gate() for ref in refs}

    async def find(self, ref: str) -> ImageInfo | None:
        if (gate := self.gates.get(ref)) is not None:
            await gate.wait()
        return await super().find(ref)


async def pulled(real: RealShelf, tag: str) -> tuple[str, ImageInfo]:
    """An image that was pulled by this tag; its name and what it was before anything was lent to it."""
    await real.publish(tag, secrets.token_hex(8))
    name = f"{real.repository}:{tag}"
    pinned = await real.images.pin(name)
    image = await real.images.pull(pinned, no_progress)
    await real.images.remember(name, pinned)
    return name, image


def tags_of(image: ImageInfo) -> set[str]:
    return set(docker("image", "inspect", "--format", '{{join .RepoTags "\\n"}}', image.id).split())


async def test_a_name_that_several_jobs_need_at_once_is_there_until_the_last_has_ended(
    real: RealShelf, tmp_path: Path
) -> None:
    name, image = await pulled(real, "1.0")
    first, second = await real.add("first"), await real.add("second")
    held = Held(real, first, second)
    archives = [str(tmp_path / "first.tar"), str(tmp_path / "second.tar")]
    saving = []
    for (ref, gate), path in zip(held.gates.items(), archives, strict=True):
        saving.append(asyncio.create_task(held.save([name, ref], path)))
        await asyncio.wait_for(gate.reached.wait(), 30)
    held.gates[first].open()
    assert await saving[0] > 0
    assert name in tags_of(image)
    assert await held.push(name, no_progress)
    assert name in tags_of(image)
    await held.prune(list)
    with pytest.raises(Conflict, match="pushed or saved"):
        await held.remove(name)
    held.gates[second].open()
    assert await saving[1] > 0
    assert tags_of(image) == set(image.tags)
    await held.remove(name)
    held.close()
    assert await real.images.find(image.id) is None
    assert name in await real.images.load(archives[1])


async def test_a_lent_tag_that_cannot_be_taken_away_is_logged_and_fails_nothing(
    real: RealShelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, image = await pulled(real, "1.0")
    other = await real.add("other")
    held = Held(real, other)
    saving = asyncio.create_task(held.save([name, other], str(tmp_path / "a.tar")))
    await asyncio.wait_for(held.gates[other].reached.wait(), 30)
    # The engine lets go of no container's last name.
    container = docker("create", "--network", "none", image.id, "true")
    docker("image", "rm", *image.tags)
    held.gates[other].open()
    try:
        assert await saving > 0
        assert f"tag_not_removed tag={name}" in caplog.text
        assert tags_of(image) == {name}
    finally:
        docker("rm", container)
        held.close()


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_lent_tag_that_a_kill_left_keeps_the_image_neither_from_a_prune_nor_from_its_removal(
    real: RealShelf, by_name: bool
) -> None:
    name, image = await pulled(real, "1.0")
    stable = f"{real.repository}:stable"
    await real.images.remember(stable, image.digests[0])
    docker("tag", image.id, name)
    docker("tag", image.id, stable)
    if by_name:
        await real.images.remove(stable)
        assert tags_of(image) == {*image.tags, name}
        assert await real.images.find(stable) is None
        await real.images.remove(name)
    else:
        assert await real.images.prune(list) > 0
    assert await real.images.find(image.id) is None


async def test_a_name_that_is_pulled_again_leads_to_the_new_image_though_a_kill_left_it_lent_to_the_old(
    real: RealShelf, tmp_path: Path
) -> None:
    name, old = await pulled(real, "1.0")
    await real.publish("1.0", secrets.token_hex(8))
    docker("tag", old.id, name)
    pinned = await real.images.pin(name)
    new = await real.images.pull(pinned, no_progress)
    await real.images.remember(name, pinned)
    found = await real.images.find(name)
    assert found is not None
    assert (found.id, found.names) == (new.id, (name,))
    assert tags_of(old) == set(old.tags)
    await real.images.save([name], str(tmp_path / "a.tar"))
    await real.images.remove(name)
    assert await real.images.find(new.id) is None
    assert await real.images.load(str(tmp_path / "a.tar")) == [name]
    assert tags_of(new) == {name}


async def test_a_tag_that_people_gave_an_image_outlives_the_name_it_was_pulled_by(real: RealShelf) -> None:
    name, image = await pulled(real, "1.0")
    await real.images.push(name, no_progress)
    docker("tag", image.id, f"{real.repository}:mine")
    docker("image", "rm", *image.tags)
    await real.images.remove(name)
    assert tags_of(image) == {f"{real.repository}:mine"}
    assert await real.images.find(name) is None


class Meanwhile(DockerImages):
    """An image is pulled by two names between the listing of the images and what is made of it."""

    names: tuple[str, ...] = ()
    pinned = ""

    async def list(self) -> list[ImageInfo]:
        listed = await super().list()
        self.pinned = await self.pin(self.names[0])
        await self.pull(self.pinned, no_progress)
        for name in self.names:
            await self.remember(name, self.pinned)
        return listed


async def test_what_is_pulled_while_a_clean_up_looks_around_is_not_forgotten(real: RealShelf) -> None:
    await real.publish("1.0", secrets.token_hex(8))
    names = [f"{real.repository}:{tag}" for tag in ("1.0", "stable", "gone")]
    gone = f"{real.repository}@sha256:{'0' * 64}"
    await real.images.remember(names[0], gone)
    await real.images.remember(names[2], gone)
    meanwhile = Meanwhile(str(real.socket), real.source, real.rules)
    meanwhile.names = (names[0], names[1])
    assert await meanwhile.tidy(list, idle=lambda: True) == 0
    found = [await meanwhile.find(name) for name in (*meanwhile.names, meanwhile.pinned)]
    meanwhile.close()
    assert [image and set(image.names) for image in found] == [set(meanwhile.names)] * 3
    assert set(await asyncio.to_thread(real.source.records.names)) == set(meanwhile.names)
