"""Volumes: the instance's own, kept until somebody asks for their end."""

from __future__ import annotations

import pytest

from agent.domain.container import Mount, VolumeSpec
from agent.errors import Conflict, NotFound
from tests.contract.engine.rig import Rig, make_spec, renamed, run


def make_volume(rig: Rig, name: str = "data") -> VolumeSpec:
    return VolumeSpec(f"{rig.gateway}-pump_{name}", "pump", rig.gateway)


async def test_a_volume_is_made_once_and_removed_once(rig: Rig) -> None:
    volume = make_volume(rig)
    await rig.engine.create_volume(volume)
    await rig.engine.create_volume(volume)
    assert await rig.engine.volumes() == [volume]
    assert await rig.engine.volumes("pump") == [volume]
    assert await rig.engine.volumes("other") == []
    await rig.engine.remove_volume(volume.name)
    await rig.engine.remove_volume(volume.name)
    assert await rig.engine.volumes() == []


async def test_each_volume_has_a_folder_of_its_own_until_it_is_gone(rig: Rig) -> None:
    first, second = make_volume(rig), make_volume(rig, "log")
    for volume in (first, second):
        await rig.engine.create_volume(volume)
    folders = [await rig.engine.volume_folder(volume.name) for volume in (first, second)]
    assert all(folder.startswith("/") for folder in folders)
    assert folders[0] != folders[1]
    assert await rig.engine.volume_folder(first.name) == folders[0]
    for volume in (first, second):
        await rig.engine.remove_volume(volume.name)
        with pytest.raises(NotFound):
            await rig.engine.volume_folder(volume.name)


async def test_other_peoples_volume_of_that_name_is_a_conflict(rig: Rig) -> None:
    volume = make_volume(rig)
    await rig.take_name("volume", volume.name)
    with pytest.raises(Conflict) as caught:
        await rig.engine.create_volume(volume)
    assert caught.value.code == "engine.foreign"


async def test_a_mounted_volume_outlives_its_container_and_not_the_other_way_round(rig: Rig) -> None:
    volume = make_volume(rig)
    await rig.engine.create_volume(volume)
    state = await run(rig, renamed(make_spec(rig), mounts=(Mount("volume", volume.name, "/data"),)))
    with pytest.raises(Conflict) as caught:
        await rig.engine.remove_volume(volume.name)
    assert caught.value.code == "engine.volume_in_use"
    await rig.engine.remove(state.id)
    assert await rig.engine.volumes() == [volume]
    await rig.engine.remove_volume(volume.name)


async def test_a_volume_that_the_engine_makes_by_itself_is_ours_too(rig: Rig) -> None:
    volume = make_volume(rig)
    state = await run(rig, renamed(make_spec(rig), mounts=(Mount("volume", volume.name, "/data"),)))
    assert await rig.engine.volumes() == [volume]
    await rig.engine.remove(state.id)
    await rig.engine.remove_volume(volume.name)
