"""A login for once: it opens the registry, is written nowhere, and is asked for again when a restart lost it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from agent.control.ledger import Journal
from agent.domain.command import JobState, Origin
from agent.domain.journal import Change
from agent.domain.policy import Policy
from agent.errors import NoSpace, Unreachable
from agent.ports import Login
from tests.control.rig import REGISTRY, Rig, manifest

PASSWORD = "s3cret-once-only"
CREDENTIALS = {REGISTRY: {"username": "anna", "password": PASSWORD}}


async def test_a_one_time_password_opens_the_registry_and_is_written_nowhere(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    rig.images.lock(REGISTRY, Login("anna", PASSWORD))
    refused = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    assert (refused.state, "the registry refuses" in refused.message) == (JobState.FAILED, True)
    params: dict[str, Any] = {"instance": "pump", "manifest": manifest(), "credentials": CREDENTIALS}
    reply = await rig.send("app.install", id_="once", **params)
    assert (await rig.job(reply)).state is JobState.DONE
    assert await rig.send("app.install", id_="once", **params) == reply
    pulled = await rig.send("image.pull", image=f"{REGISTRY}/other:1", credentials=CREDENTIALS)
    assert (await rig.job(pulled)).state is JobState.DONE
    wrong = {REGISTRY: {"username": "anna", "password": PASSWORD, "pass": PASSWORD}}
    malformed = await rig.send("image.pull", image=f"{REGISTRY}/other:1", credentials=wrong)
    assert malformed.code == 400
    shown = [await rig.send(type_, Origin.LOCAL) for type_ in ("job.list", "app.list")]
    texts = repr((reply, malformed, shown, rig.room.ledger.jobs, rig.room.ledger.desired))
    assert PASSWORD.encode() not in rig.written()
    assert PASSWORD not in caplog.text + texts


def logins_in_memory() -> int:
    """How many logins the process holds, whoever holds them."""
    gc.collect()
    return sum(isinstance(each, Login) for each in gc.get_objects())


@pytest.mark.parametrize("word", [PASSWORD, "another"])
async def test_a_login_is_let_go_when_its_job_is_over_however_it_ended(rig: Rig, word: str) -> None:
    rig.images.lock(REGISTRY, Login("anna", word))
    before = logins_in_memory()
    gate = rig.images.faults.pause("pin")
    reply = await rig.send("app.install", instance="pump", manifest=manifest(), credentials=CREDENTIALS)
    await asyncio.wait_for(gate.reached.wait(), 10)
    assert logins_in_memory() == before + 1
    gate.open()
    await rig.job(reply)
    await rig.until(lambda: logins_in_memory() == before, "the login's end")
    assert logins_in_memory() == before


async def test_a_job_that_lost_its_credentials_in_a_restart_waits_for_them_and_goes_on_with_the_same_command(
    rig: Rig,
) -> None:
    rig.images.lock(REGISTRY, Login("anna", PASSWORD))
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "no route"))
    params: dict[str, Any] = {"instance": "pump", "manifest": manifest()}
    reply = await rig.send("app.install", credentials=CREDENTIALS, **params)
    await rig.loses_login(reply.job)
    assert REGISTRY in rig.job_now(reply.job).message
    assert "credentials_needed" in rig.room.views.summary("pump")["message"]
    assert (await rig.send("app.install", **params)).code == 409
    again = await rig.send("app.install", credentials=CREDENTIALS, **params)
    assert (again.code, again.job) == (202, reply.job)
    assert (await rig.job(again)).state is JobState.DONE


def built(folder: Path) -> dict[str, Any]:
    """An APP whose one image is built in `folder`, on a base that the registry has."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {REGISTRY}/base:1\n")
    text = "\n".join(line for line in manifest().splitlines() if "image:" not in line)
    return {"instance": "pump", "manifest": text + "\n    build: .\n", "folder": str(folder)}


async def test_the_bases_of_a_build_are_opened_by_the_credentials_of_its_command(rig: Rig, tmp_path: Path) -> None:
    base = rig.images.publish(f"{REGISTRY}/base:1")
    rig.images.lock(REGISTRY, Login("anna", PASSWORD))
    rig.policy = Policy(registries=(REGISTRY,), grants={"pump": frozenset({"build"})})
    await rig.restart()
    params = built(tmp_path / "app")
    refused = await rig.job(await rig.send("app.install", Origin.LOCAL, **params))
    assert (refused.state, "the registry refuses" in refused.message) == (JobState.FAILED, True)
    job = await rig.job(await rig.send("app.install", Origin.LOCAL, credentials=CREDENTIALS, **params))
    assert job.state is JobState.DONE
    by_hand = {"folder": params["folder"], "tag": "local/other:1"}
    await rig.images.remove(base)
    job = await rig.job(await rig.send("image.build", Origin.LOCAL, credentials=CREDENTIALS, **by_hand))
    assert job.state is JobState.DONE
    assert PASSWORD.encode() not in rig.written()


async def test_a_push_is_opened_once_and_asks_again_after_a_restart(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    image = f"{REGISTRY}/mine:1"
    rig.images.add(image)
    rig.images.lock(REGISTRY, Login("anna", PASSWORD))
    refused = await rig.job(await rig.send("image.push", Origin.LOCAL, image=image))
    assert (refused.state, "the registry refuses" in refused.message) == (JobState.FAILED, True)
    rig.images.fail_next("push", Unreachable("image.registry_unreachable", "no route"))
    reply = await rig.send("image.push", Origin.LOCAL, image=image, credentials=CREDENTIALS)
    await rig.loses_login(reply.job)
    again = await rig.send("image.push", Origin.LOCAL, image=image, credentials=CREDENTIALS)
    assert (again.code, again.job) == (202, reply.job)
    assert (await rig.job(again)).state is JobState.DONE
    assert PASSWORD.encode() not in rig.written()
    assert PASSWORD not in caplog.text


class Refusing:
    """A journal that does not take the first word that credentials are needed."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def commit(self, change: Change, now_ms: int) -> None:
        if not self.refused and any(job.state is JobState.CREDENTIALS_NEEDED for job in change.jobs):
            self.refused += 1
            raise NoSpace("store.no_space", "the disk is full")
        await self._journal.commit(change, now_ms)


async def test_that_credentials_are_needed_is_written_also_when_the_disk_was_full_at_first(rig: Rig) -> None:
    rig.images.lock(REGISTRY, Login("anna", PASSWORD))
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "no route"))
    reply = await rig.send("app.install", instance="pump", manifest=manifest(), credentials=CREDENTIALS)
    await rig.tries_again(reply.job)
    gate = rig.images.faults.pause("pin")
    await rig.restart()
    await asyncio.wait_for(gate.reached.wait(), 10)
    refusing = Refusing(rig.room.ledger.journal)
    rig.room.ledger.journal = refusing
    gate.open()
    await rig.until(lambda: rig.job_now(reply.job).state is JobState.CREDENTIALS_NEEDED, "its waiting")
    assert refusing.refused == 1


async def test_credentials_that_are_needed_no_more_are_not_asked_for(rig: Rig) -> None:
    rig.images.fail_next("pull", Unreachable("image.registry_unreachable", "no route"))
    reply = await rig.send("app.install", instance="pump", manifest=manifest(), credentials=CREDENTIALS)
    await rig.tries_again(reply.job)
    await rig.restart()
    assert (await rig.job(reply)).state is JobState.DONE


async def test_another_command_replaces_the_job_that_waits_for_credentials(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", Origin.LOCAL, instance="pump", manifest=manifest()))
    rig.images.lock(REGISTRY, Login("anna", PASSWORD))
    rig.images.fail_next("pin", Unreachable("image.registry_unreachable", "no route"))
    first = await rig.send(
        "app.upgrade", take_over=True, instance="pump", manifest=manifest("2"), credentials=CREDENTIALS
    )
    await rig.loses_login(first.job)
    second = await rig.send("app.upgrade", instance="pump", manifest=manifest("3"), credentials=CREDENTIALS)
    assert second.job != first.job
    assert (await rig.job(second)).state is JobState.DONE
    assert rig.job_now(first.job).state is JobState.SUPERSEDED


async def test_a_wrong_password_ends_the_job_and_says_so(rig: Rig) -> None:
    rig.images.lock(REGISTRY, Login("anna", "another"))
    job = await rig.job(await rig.send("app.install", instance="pump", manifest=manifest(), credentials=CREDENTIALS))
    assert (job.state, "the registry refuses" in job.message) == (JobState.FAILED, True)
