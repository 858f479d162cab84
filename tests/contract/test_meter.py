"""What containers use: one suite on the fake and on this machine with a real container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.domain.container import ContainerState, RunState
from agent.domain.usage import Folder
from agent.host.meter import SystemMeter
from agent.ports import Meter
from deploy.lab.engine import docker
from tests.fakes.meter import FakeMeter

LIMIT_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Lab:
    """A meter, a container that runs, and folders."""

    meter: Meter
    running: ContainerState
    root: Path


def state(id_: str, pid: int) -> ContainerState:
    return ContainerState(id_, "c", "pump", "main", "r1", "s1", "i1", RunState.RUNNING, pid=pid)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    if request.param == "fake":
        yield Lab(FakeMeter(), state("f" * 64, 7), tmp_path)
        return
    name = request.getfixturevalue("gateway_id")
    words = ("run", "-d", "--label", f"ec.gateway={name}", "--network", "none", "--memory", "64m", "--pids-limit", "64")
    id_ = docker(*words, "ec/busybox:1", "sleep", "60").strip()
    meter = SystemMeter()
    yield Lab(meter, state(id_, int(docker("inspect", "-f", "{{.State.Pid}}", id_))), tmp_path)
    meter.close()


async def test_a_running_container_is_read_and_those_that_ended_are_left_out(lab: Lab) -> None:
    ended = state("e" * 64, 0)
    used = await lab.meter.read([lab.running, ended])
    assert list(used) == [lab.running.id]
    use = used[lab.running.id]
    assert (use.mem_limit_bytes, use.pids_limit, use.oom_kills) == (LIMIT_BYTES, 64, 0)
    assert use.pids >= 1
    assert 0 < use.mem_bytes <= LIMIT_BYTES
    assert await lab.meter.read([]) == {}


async def test_every_folder_that_is_asked_for_is_answered_also_one_that_is_not_there(lab: Lab) -> None:
    folders = [str(lab.root / "gone"), str(lab.root)]
    found = await lab.meter.measure(folders)
    assert list(found) == folders
    assert found[folders[0]].bytes == 0
    assert all(isinstance(each, Folder) for each in found.values())


async def test_where_the_file_system_keeps_no_quotas_it_says_so_and_free_space_is_known(lab: Lab) -> None:
    assert await lab.meter.cap("pump", [str(lab.root)], LIMIT_BYTES) is False
    disk = await lab.meter.disk(str(lab.root))
    assert disk is not None
    assert 0 < disk.free_bytes <= disk.total_bytes


async def test_folders_that_the_time_was_too_short_for_are_told_as_not_complete(tmp_path: Path) -> None:
    meter = SystemMeter(measure_within_s=0.0)
    try:
        assert await meter.measure([str(tmp_path), str(tmp_path / "b")]) == {
            str(tmp_path): Folder(complete=False),
            str(tmp_path / "b"): Folder(complete=False),
        }
    finally:
        meter.close()
