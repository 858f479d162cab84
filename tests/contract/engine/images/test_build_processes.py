"""A build's step has so many processes and no more, held by the real kernel."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.dockerfile import BuildHow
from agent.engine.fence import BuildFence
from agent.engine.images import DockerImages
from agent.errors import Failed
from agent.registry.client import RegistryClient
from tests.contract.engine.images.shelves import RealShelf, no_progress
from tests.contract.engine.rig import docker

pytestmark = [pytest.mark.engine, pytest.mark.registry]

CGROUPS = Path("/sys/fs/cgroup")
MOST = 40


@pytest.fixture
def fenced(real: RealShelf) -> Iterator[DockerImages]:
    """Images whose builds have a group of their own, with few processes; the group goes with the test."""
    group = f"ec-test-{secrets.token_hex(4)}-builds"
    rules = replace(real.rules, fence=BuildFence(group, MOST))
    images = DockerImages(str(real.socket), RegistryClient(real.folder), rules)
    yield images
    images.close()
    for folder in (CGROUPS / group, *CGROUPS.glob(f"*/{group}")):
        if folder.is_dir():
            folder.rmdir()


async def prepare(real: RealShelf, folder: Path, processes: int) -> BuildHow:
    """A folder with a Dockerfile whose step starts so many processes."""
    base = await real.add("base:1")
    step = f"n=0; while [ $n -lt {processes} ]; do sleep 2 & n=$((n+1)); done; echo started $n"
    (folder / "Dockerfile").write_text(f"FROM {base}\nRUN {step}\n")
    image = await real.images.find(base)
    assert image is not None
    return BuildHow(bases={base: image.id})


async def test_a_step_that_starts_more_processes_than_the_limit_fails_the_build_or_the_log_says_that_it_cannot(
    real: RealShelf, fenced: DockerImages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how = await prepare(real, tmp_path, 300)
    tag = f"{real.stem}/forking:1"
    if await asyncio.to_thread(docker, "info", "-f", "{{.CgroupDriver}}") != "cgroupfs":
        assert tag in (await fenced.build(str(tmp_path), tag, no_progress, how)).tags
        assert "build_pids_unlimited" in caplog.text
        return
    with pytest.raises(Failed) as caught:
        await fenced.build(str(tmp_path), tag, no_progress, how)
    assert caught.value.code == "image.build_failed"
    assert "fork" in str(caught.value.fields["output"])
    assert await fenced.find(tag) is None


async def test_a_step_with_fewer_processes_passes(real: RealShelf, fenced: DockerImages, tmp_path: Path) -> None:
    how = await prepare(real, tmp_path, MOST // 2)
    built = await fenced.build(str(tmp_path), f"{real.stem}/modest:1", no_progress, how)
    assert f"{real.stem}/modest:1" in built.tags
