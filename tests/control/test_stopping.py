"""What is stopped for good is stopped as its own version says: dependents first, each with its own grace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from tests.control.rig import REGISTRY, Rig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


def chain(version: str, grace_s: int, strategy: str = "stop-first") -> str:
    """`web` on `db`; the data base takes its time to stop."""
    return f"""\
name: pump
x-ec:
  version: "{version}"
  update: {{strategy: {strategy}, health: {{within: 3s, stable_for: 0s}}}}
services:
  web: {{image: "{REGISTRY}/other:{version}", depends_on: [db], stop_grace_period: 2s}}
  db: {{image: "{REGISTRY}/pump:{version}", stop_grace_period: {grace_s}s}}
"""


async def bring(rig: Rig, type_: str, text: str) -> dict[str, str]:
    """Service by id of the container that it has then."""
    job = await rig.job(await rig.send(type_, instance="pump", manifest=text))
    assert job.state is JobState.DONE, job
    return {rig.engine.find("pump", service)[0].id: service for service in ("web", "db")}


def stopped(rig: Rig, services: dict[str, str]) -> list[tuple[str, int]]:
    """Service and grace of those that were stopped, in order."""
    return [(services[id_], rig.engine.graces[id_]) for op, id_ in rig.engine.log if op == "stop" and id_ in services]


async def test_a_removal_stops_what_depends_first_and_gives_each_its_time(rig: Rig) -> None:
    services = await bring(rig, "app.install", chain("1", 45))
    await rig.send("app.remove", instance="pump")
    await rig.until(lambda: not rig.engine.find("pump", "db"), "the removal")
    assert stopped(rig, services) == [("web", 2), ("db", 45)]


async def test_a_removal_after_a_restart_of_the_agent_still_knows_how(rig: Rig) -> None:
    services = await bring(rig, "app.install", chain("1", 45))
    await rig.restart()
    await rig.send("app.remove", instance="pump")
    await rig.until(lambda: not rig.engine.find("pump", "db"), "the removal")
    assert stopped(rig, services) == [("web", 2), ("db", 45)]


@pytest.mark.parametrize("strategy", ["stop-first", "start-first"])
async def test_an_upgrade_gives_the_old_containers_the_time_of_their_own_version(rig: Rig, strategy: str) -> None:
    services = await bring(rig, "app.install", chain("1", 45))
    await bring(rig, "app.upgrade", chain("2", 3, strategy))
    await rig.until(lambda: len(rig.engine.find("pump", "db")) == 1, "the old ones gone")
    assert stopped(rig, services) == [("web", 2), ("db", 45)]
