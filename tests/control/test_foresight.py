"""`app plan` tells what an install or an upgrade then does: its trial, its copies, its gate and what follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import JobState, Origin
from tests.control.rig import Rig, manifest, running

HEALTH = "within: 5s, stable_for: 0s"
GATE = "wait until it is healthy, for 5 s, and stays so for 0 s; else "


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


def plain(version: str) -> str:
    return manifest(version, health=HEALTH)


def start_first(version: str) -> str:
    return plain(version).replace("  update:\n", "  update:\n    strategy: start-first\n")


def with_data(version: str) -> str:
    text = manifest(version, extra='volumes: ["data:/data"]', health=HEALTH) + "volumes: {data: {}}\n"
    return text.replace("  update:\n", "  update:\n    rollback: {volumes: [data]}\n")


def short(steps: Any) -> list[str]:
    """Verb and object of each step: ids and digests come only with the deed."""
    return [" ".join(str(step).split()[:2]) for step in steps]


async def told(rig: Rig, text: str) -> list[str]:
    reply = await rig.send("app.plan", instance="pump", manifest=text)
    assert reply.code == 200, reply
    return list(reply.data["steps"])


async def done(rig: Rig, type_: str, text: str) -> list[str]:
    """What the journal holds of the job."""
    job = await rig.job(await rig.send(type_, instance="pump", manifest=text))
    assert job.state is JobState.DONE, job
    return [step["step"] for step in (await rig.send("job.status", job=job.id)).data["steps"]]


async def test_a_plan_says_whose_the_instance_is_where_it_is_not_ours(rig: Rig) -> None:
    assert (await rig.send("app.plan", instance="pump", manifest=plain("1"))).data["owner"] == ""
    await done(rig, "app.install", plain("1"))
    assert (await rig.send("app.plan", instance="pump", manifest=plain("2"))).data["owner"] == "cloud"
    taken = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=plain("2"), take_over=True)
    assert (await rig.job(taken)).state is JobState.DONE
    assert (await rig.send("app.plan", instance="pump", manifest=plain("3"))).data["owner"] == ""


EXPECTED = {
    plain: ["create container", "stop container", "start container", "wait until", "remove container"],
    start_first: ["create container", "start container", "wait until", "stop container", "remove container"],
    with_data: [
        "create container", "reserve room", "stop container", "copy the", "start container", "wait until",
        "remove container", "forget copies",
    ],
}  # fmt: skip


@pytest.mark.parametrize("release", list(EXPECTED), ids=lambda each: each.__name__)
async def test_a_plan_of_an_upgrade_is_what_the_upgrade_then_does(rig: Rig, release: Any) -> None:
    await done(rig, "app.install", release("1"))
    foreseen = await told(rig, release("2"))
    assert short(foreseen) == EXPECTED[release]
    (gate,) = [step for step in foreseen if step.startswith("wait")]
    assert gate == GATE + "go back to the version before"
    deeds = short(await done(rig, "app.upgrade", release("2")))
    assert deeds == [step for step in short(foreseen) if step != "wait until"]


async def test_a_plan_of_an_installation_says_that_what_does_not_prove_itself_is_stopped(rig: Rig) -> None:
    foreseen = await told(rig, plain("1"))
    assert short(foreseen) == ["create container", "start container", "wait until"]
    assert foreseen[-1] == GATE + "stop it"
    assert rig.room.ledger.desired == {}


async def test_a_plan_of_what_runs_already_is_empty(rig: Rig) -> None:
    await done(rig, "app.install", plain("1"))
    assert await told(rig, plain("1")) == []


async def test_a_plan_of_an_upgrade_of_what_is_stopped_starts_nothing(rig: Rig) -> None:
    await done(rig, "app.install", plain("1"))
    await rig.job(await rig.send("app.stop", instance="pump"))
    assert "start container" not in short(await told(rig, plain("2")))
