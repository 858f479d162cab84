"""Configs, secrets and env files come along in a bundle whatever they are called, as `ecgw app install` sends them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.bundle import MAX_TEXT_BYTES
from agent.domain.command import JobState, Origin
from tests.control.packer import Packer, installed, sticks_of
from tests.control.rig import REGISTRY, Rig, manifest

FILES = {"app.conf": "speed = 3\n", "token.txt": "t0ken\n", ".env": "MODE=fast\n", "conf/motd": "hello\n"}
TEXT = (
    manifest(extra="env_file: .env\nconfigs: [conf, motd]\nsecrets: [token]")
    + "configs: {conf: {file: ./app.conf}, motd: {file: ./conf/motd}}\nsecrets: {token: {file: ./token.txt}}\n"
)


async def pack(packer: Packer, **more: str) -> Path:
    return await packer.pack("1", files=FILES | {"photo.json": "\0" * MAX_TEXT_BYTES * 2} | more, text=TEXT)


def kept(rig: Rig) -> dict[str, str]:
    """The files of the version that runs."""
    current = rig.room.ledger.get("pump").current
    assert current is not None
    return dict(rig.room.catalog.release(current.release).files)


async def test_the_files_that_the_manual_names_come_along_by_import(rig: Rig, packer: Packer) -> None:
    path = await pack(packer)
    shown = (await rig.send("bundle.show", Origin.LOCAL, path=str(path))).data
    job = await rig.job(await rig.send("bundle.import", Origin.LOCAL, path=str(path)))
    assert shown["files"] == sorted(FILES)
    assert job.state is JobState.DONE, job.message
    assert kept(rig) == FILES
    (made,) = rig.engine.find("pump", "main")
    assert dict(rig.engine.spec_of(made.id).environment)["MODE"] == "fast"


async def test_they_come_along_from_a_watched_folder(rig: Rig, packer: Packer) -> None:
    path = await pack(packer)
    looking = sticks_of(rig, path.parent)
    for _ in range(3):
        await looking.look()
    await rig.until(lambda: installed(rig), "its installation")
    assert kept(rig) == FILES


@pytest.mark.may_block  # the test puts the file where the fake download finds it
async def test_they_come_along_from_a_url(rig: Rig, packer: Packer) -> None:
    world = rig.root / "world"
    world.mkdir()
    (await pack(packer)).rename(world / "pump-1.bundle")
    url = f"https://{REGISTRY}/bundles/pump-1.bundle"
    reply = await rig.send("bundle.fetch", instance="pump", url=url, sha256="0" * 64)
    job = await rig.job(reply)
    assert job.state is JobState.DONE, job.message
    assert kept(rig) == FILES


@pytest.mark.parametrize(
    ("content", "code"), [("x" * (MAX_TEXT_BYTES + 1), "bundle.too_long"), ("\ud800", "bundle.encoding")]
)
async def test_one_that_is_too_long_or_no_text_is_refused_by_name(
    rig: Rig, packer: Packer, content: str, code: str
) -> None:
    path = await pack(packer, **{"app.conf": content})
    reply = await rig.send("bundle.import", Origin.LOCAL, path=str(path))
    assert (reply.code, reply.data["code"]) == (400, code)
    assert "app.conf" in reply.data["title"]
    assert not rig.room.ledger.desired
