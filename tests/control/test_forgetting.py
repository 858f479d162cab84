"""What the ledger forgets is forgotten everywhere: in memory, in the database, in the files beside it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import Job, JobState
from agent.domain.journal import Change, StoredRelease
from agent.domain.retention import KEEP_JOBS, KEEP_UNTOLD, KEEP_UNUSED
from agent.store.state import StateStore
from tests.control.rig import Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


def release_files(rig: Rig) -> set[str]:
    return {path.stem for path in (rig.root / "releases").iterdir()}


async def test_fifty_versions_leave_a_bounded_number_of_releases_in_memory_rows_and_files(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
    # Other tests of this process deploy the first one too, and a failed one may still hold it.
    common, seen = set(rig.room.ledger.releases), set[str]()
    for number in range(50):
        text = manifest("1").replace('version: "1"', f'version: "50.{number}"')
        await rig.job(await rig.send("app.upgrade", instance="pump", manifest=text))
        seen |= set(rig.room.ledger.releases)
    assert await rig.store.settled()
    known = set(rig.room.ledger.releases)
    used = {version.release for version in rig.room.ledger.desired["pump"].versions}
    assert used <= known
    assert len(known - used) == KEEP_UNUSED
    assert release_files(rig) == known
    assert {stored.hash for stored in (await rig.store.load()).releases} == known
    gc.collect()
    held = {each.hash for each in gc.get_objects() if isinstance(each, StoredRelease)}
    assert len(seen - common) == 50
    assert held & seen - common == known - common, "nobody holds what the ledger forgot"


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_file_that_a_kill_left_after_its_release_was_forgotten_does_not_come_back(
    tmp_path: Path, damaged: bool
) -> None:
    """The commit that forgets was written, its file stood still: put back here, as the kill would have left it."""
    store = StateStore(tmp_path / "state.db")
    await store.open()
    both = tuple(StoredRelease(hash_ * 64, "text", "pump", {}) for hash_ in "ab")
    await store.commit(Change(releases=both), 1)
    assert await store.settled()
    left = tmp_path / "releases" / f"{'a' * 64}.json"
    facts = (tmp_path / "facts.json").read_bytes()
    content = left.read_bytes()
    await store.commit(Change(releases_gone=("a" * 64,)), 2)
    assert await store.settled()
    assert not left.exists()
    await store.close()
    left.write_bytes(content)
    (tmp_path / "facts.json").write_bytes(facts)
    await store.open()
    assert await store.settled()
    await store.close()
    assert not left.exists()
    if damaged:
        (tmp_path / "state.db").write_bytes(b"not a database")
    await store.open()
    found = await store.load()
    await store.close()
    assert bool(store.mended) is damaged
    assert [each.hash for each in found.releases] == ["b" * 64]


def ended(count: int, kind: str = "image.load") -> list[Job]:
    """Jobs that are over, each with a large manifest."""
    params = {"manifest": "x" * 10_000, "bundle": "b"}
    return [Job(f"{kind}-{n}", kind, "", f"c{n}", JobState.FAILED, params=params) for n in range(count)]


async def write(rig: Rig, jobs: list[Job], told: bool) -> None:
    for job in jobs:
        await rig.room.ledger.decide(lambda job=job: Change(jobs=(job,)))  # type: ignore[misc]
        if told:
            await rig.room.ledger.mark_told(rig.room.ledger.jobs[job.id])


async def test_jobs_that_are_over_are_bounded_in_memory_and_on_disk_as_they_end(rig: Rig) -> None:
    made = ended(KEEP_JOBS + 50)
    await write(rig, made, told=True)
    newest = {job.id for job in made[-KEEP_JOBS:]}
    # What is told just now was untold when it ended, so one more stays until the next ends.
    assert newest <= set(rig.room.ledger.jobs)
    assert len(rig.room.ledger.jobs) <= KEEP_JOBS + 1
    assert {job.id for job in (await rig.store.load()).jobs} == set(rig.room.ledger.jobs)
    held = [each for each in gc.get_objects() if isinstance(each, Job) and each.id in rig.room.ledger.jobs]
    assert {tuple(each.params) for each in held if each not in made} == {("bundle",)}


async def test_results_that_no_cloud_asks_for_are_kept_up_to_a_bound_and_told_ones_go_first(rig: Rig) -> None:
    await write(rig, ended(20, "told"), told=True)
    made = ended(KEEP_UNTOLD + 30)
    await write(rig, made, told=False)
    kept = [job.id for job in made[-KEEP_UNTOLD:]]
    assert list(rig.room.ledger.untold) == kept
    assert set(rig.room.ledger.jobs) == set(kept)
    assert {job.id for job in (await rig.store.load()).jobs} == set(kept)
    await rig.restart()
    assert set(rig.room.ledger.untold) == set(kept)


async def test_a_job_that_is_not_over_stays_whatever_ends_beside_it(rig: Rig) -> None:
    at_ms = rig.clock.now_ms() + 3_600_000
    reply = await rig.send("app.install", instance="pump", manifest=manifest("1"), at=at_ms)
    await write(rig, ended(KEEP_JOBS + 5), told=True)
    assert rig.room.ledger.jobs[reply.job].params["manifest"] == manifest("1")
