"""An APP's configs and secrets are on disk before its containers are, and never in what people are shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState
from agent.domain.container import Health
from tests.control.rig import REGISTRY, Rig, running

TEXT = f"""\
name: pump
x-ec: {{update: {{health: {{within: 5s, stable_for: 0s}}}}}}
services:
  main: {{image: "{REGISTRY}/pump:VERSION", secrets: [token], env_file: main.env}}
secrets: {{token: {{file: ./token.txt}}}}
"""
SLOW = TEXT.replace("stable_for: 0s", "stable_for: 4s")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


def files(token: str = "s3cr3t") -> dict[str, str]:
    return {"token.txt": token, "main.env": "LEVEL=info\n"}


def on_disk(rig: Rig) -> list[str]:
    return sorted(each.read_text() for each in (rig.root / "files" / "pump").rglob("*") if each.is_file())


async def install(rig: Rig, token: str = "s3cr3t") -> None:
    kind = "app.upgrade" if "pump" in rig.room.ledger.desired else "app.install"
    text = TEXT.replace("VERSION", "1")
    job = await rig.job(await rig.send(kind, instance="pump", manifest=text, files=files(token)))
    assert job.state is JobState.DONE, job


async def test_a_secret_is_in_its_file_and_nowhere_that_people_look(rig: Rig) -> None:
    await install(rig)
    assert on_disk(rig) == ["s3cr3t"]
    (state,) = rig.engine.find("pump", "main")
    spec = rig.engine.spec_of(state.id)
    (mount,) = [each for each in spec.mounts if each.target == "/run/secrets/token"]
    assert Path(mount.source).read_text() == "s3cr3t"
    assert dict(spec.environment)["LEVEL"] == "info"
    shown = [rig.room.views.detail("pump"), rig.room.views.summary("pump")]
    shown += [(await rig.send(kind)).data for kind in ("app.list", "app.status", "job.list")]
    shown.append(
        (await rig.send("app.plan", instance="pump", manifest=TEXT.replace("VERSION", "1"), files=files())).data
    )
    assert "s3cr3t" not in json.dumps(shown, default=str)


async def test_a_changed_file_makes_a_new_container_and_the_old_file_goes_after_the_verdict(rig: Rig) -> None:
    await install(rig)
    (before,) = rig.engine.find("pump", "main")
    await install(rig, "changed")
    (after,) = rig.engine.find("pump", "main")
    assert before.id != after.id
    await rig.until(lambda: on_disk(rig) == ["changed"], "the old file's end")


async def test_a_roll_back_finds_its_old_files_again(rig: Rig) -> None:
    await install(rig)
    slow = SLOW.replace("VERSION", "2")
    reply = await rig.send("app.upgrade", instance="pump", manifest=slow, files=files("changed"))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the new version")
    assert on_disk(rig) == ["changed", "s3cr3t"], "the old version must be able to come back at once"
    rig.engine.become("pump", "main", Health.UNHEALTHY)
    assert (await rig.job(reply)).state is JobState.ROLLED_BACK
    await rig.until(lambda: on_disk(rig) == ["s3cr3t"], "only the old file")


async def test_a_file_that_somebody_deleted_comes_back_with_the_next_look(rig: Rig) -> None:
    await install(rig)
    for each in (rig.root / "files" / "pump").rglob("token"):
        each.unlink()
    assert on_disk(rig) == []
    rig.engine.crash("pump", "main")
    await rig.until(lambda: on_disk(rig) != [], "the file")
    assert on_disk(rig) == ["s3cr3t"]
    assert len(rig.engine.find("pump", "main")) == 1


async def test_removal_takes_the_files_along(rig: Rig) -> None:
    await install(rig)
    assert (await rig.job(await rig.send("app.remove", instance="pump"))).state is JobState.DONE
    await rig.until(lambda: not (rig.root / "files" / "pump").exists(), "the end of its files")
    assert list((rig.root / "files").iterdir()) == []


async def test_a_manifest_without_its_files_is_refused_at_the_line_that_names_them(rig: Rig) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=TEXT.replace("VERSION", "1"))
    assert reply.code == 400
    assert reply.msg.startswith("pump:4:70: the file main.env is not beside the manifest (and 1 more)")
    assert rig.room.ledger.desired == {}
