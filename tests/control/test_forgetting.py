"""What the ledger forgets is forgotten everywhere: in memory, in the database, in the files beside it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.journal import Change, StoredRelease
from agent.domain.retention import KEEP_UNUSED
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
    seen: set[str] = set()
    for number in range(50):
        text = manifest("1").replace('version: "1"', f'version: "1.{number}"')
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
    assert len(seen) == 51
    assert held & seen == known, "nobody holds what the ledger forgot"


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
