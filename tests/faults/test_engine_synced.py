"""Whatever comes into the engine is on its disk before anything relies on it: a power cut then costs none of its files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.domain.dockerfile import BuildHow
from agent.engine.durable import sync_disk
from agent.engine.handover import Rooms
from agent.engine.images import DockerImages, ImageRules
from agent.registry.client import RegistryClient
from tests.contract.engine.conftest import import_busybox
from tests.contract.engine.rig import docker
from tests.faults import loopfs

pytestmark = pytest.mark.may_block


def survivors(disk: Path, root: Path, kind: str) -> dict[str, bytes]:
    """The files that a power cut at this moment leaves on the file system in `disk`."""
    copy = root / "copy"
    loopfs.copy(disk, copy)
    with loopfs.mounted(copy, root / "after", kind) as found:
        return {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()}


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_what_nobody_synced_outlasts_a_power_cut(kind: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    loopfs.make(disk, kind)
    with loopfs.mounted(disk, tmp_path / "before", kind) as folder:
        (folder / "layer").write_bytes(b"x" * 100_000)
        assert survivors(disk, tmp_path, kind).get("layer", b"") == b"", "else this test shows nothing"
        await sync_disk(str(folder))
        assert survivors(disk, tmp_path, kind)["layer"] == b"x" * 100_000


async def test_where_there_is_no_program_for_it_it_outlasts_a_power_cut_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    loopfs.make(disk, "ext4")
    with loopfs.mounted(disk, tmp_path / "before", "ext4") as folder:
        (folder / "layer").write_bytes(b"x" * 100_000)
        with monkeypatch.context() as bare:
            bare.setenv("PATH", str(tmp_path))
            await sync_disk(str(folder))
        assert survivors(disk, tmp_path, "ext4")["layer"] == b"x" * 100_000


async def test_a_folder_that_is_not_there_is_nobodys_trouble(tmp_path: Path) -> None:
    await sync_disk(str(tmp_path / "gone"))
    assert list(tmp_path.iterdir()) == []


async def test_loaded_and_built_images_are_synced_when_the_engine_has_them(
    engine_socket: Path, gateway_id: str, tmp_path: Path
) -> None:
    base, built = f"{gateway_id}/base:1", f"{gateway_id}/built:1"
    seen: list[tuple[str, set[str]]] = []

    async def sync(folder: str) -> None:
        rows = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
        seen.append((folder, {base, built}.intersection(rows)))

    images = DockerImages(
        str(engine_socket), RegistryClient(tmp_path / "blobs"), ImageRules(mark="t-synced", rooms=Rooms(sync=sync))
    )
    import_busybox(base, gateway_id)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f'FROM {base}\nCMD ["true"]\n')
    try:
        await images.save([base], str(tmp_path / "saved.tar"))
        docker("image", "rm", base)
        await images.load(str(tmp_path / "saved.tar"))
        bases = {ref: docker("image", "inspect", "--format", "{{.Id}}", ref) for ref in (base,)}
        await images.build(str(folder), built, lambda *_: None, BuildHow(bases=bases))
        root = docker("info", "--format", "{{.DockerRootDir}}")
        assert seen == [(root, {base}), (root, {base, built})]
    finally:
        images.close()
        subprocess.run(["docker", "image", "rm", "-f", built, base], check=False, capture_output=True, timeout=60)
