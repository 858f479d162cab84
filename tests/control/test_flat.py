"""Three hundred deployments: whatever the agent holds then is as much as it held after the first hundred."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import sqlite3
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.domain.command import Job, JobState
from agent.domain.journal import Change
from agent.domain.retention import KEEP_JOBS
from tests.control.rig import Rig, manifest, running

INSTANCES = 25
HUNDRED = 100 // INSTANCES
UNDER_WAY = 150
"""So many more of anything are work under way, or of an instance (levels of use); one left by each deployment is 200."""
JOURNALS = {"commands", "steps"}
"""Tables that keep the newest ten and five thousand, as the contract and the journal say."""


@dataclass(frozen=True, slots=True)
class Held:
    """Counts: in memory, in the database's rows, in files by their folder."""

    ledger: tuple[int, ...]
    tasks: int
    rows: Counter[str]
    files: Counter[str]
    objects: Counter[str]
    entries: Counter[str]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "gw") as made:
        yield made


async def fill_jobs(rig: Rig) -> None:
    """As many jobs as are kept are over and told, so that from now on each new one drives out an old one."""
    jobs = tuple(Job(f"old-{n}", "install", "", f"old-{n}", JobState.DONE) for n in range(KEEP_JOBS))
    await rig.room.ledger.decide(lambda: Change(jobs=jobs))
    await asyncio.gather(*[rig.room.ledger.mark_told(rig.room.ledger.jobs[job.id]) for job in jobs])


async def deploy(rig: Rig, rounds: range) -> None:
    """One deployment of each instance a round, each of a release of its own, one instance beside the other."""
    ledger = rig.room.ledger
    for number in rounds:
        text = manifest(str(number % 4 + 1), extra="mem_limit: 16m")
        kind = "app.upgrade" if number else "app.install"
        ids = []
        for n in range(INSTANCES):
            own = text.replace('version: "', f'version: "{number}.{n}.')
            ids.append((await rig.send(kind, instance=f"pump-{n}", manifest=own)).job)
        await rig.until(lambda ids=ids: all(ledger.jobs[id_].state.final for id_ in ids), "the deployments", 60)  # type: ignore[misc]
        assert {ledger.jobs[id_].state for id_ in ids} == {JobState.DONE}
        await asyncio.gather(*[ledger.mark_told(ledger.jobs[id_]) for id_ in ids])


async def count(rig: Rig, copy: Path) -> Held:
    """Everything there is, when what was under way has ended."""
    assert await rig.store.settled()
    ledger = rig.room.ledger
    objects, entries = count_ours()
    return Held(
        (len(ledger.desired), len(ledger.jobs), len(ledger.releases), len(ledger.untold), len(ledger.meta)),
        len(asyncio.all_tasks()),
        count_rows(rig.root, copy),
        Counter(path.relative_to(rig.root).parts[0] for path in rig.root.rglob("*")),
        objects,
        entries,
    )


def count_rows(root: Path, copy: Path) -> Counter[str]:
    """Rows by table, read from a copy: the agent holds the file."""
    copy.mkdir()
    for path in root.glob("state.db*"):
        shutil.copy(path, copy)
    with contextlib.closing(sqlite3.connect(copy / "state.db")) as state:
        tables = [name for (name,) in state.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return Counter({t: state.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables})


def count_ours() -> tuple[Counter[str], Counter[str]]:
    """Objects of the agent's classes, and the entries of the collections that they hold themselves."""
    gc.collect()
    objects, entries = Counter[str](), Counter[str]()
    for each in gc.get_objects():
        kind = f"{type(each).__module__}.{type(each).__qualname__}"
        if kind.startswith("agent."):
            objects[kind] += 1
            for held in gc.get_referents(each):
                values = held.values() if isinstance(held, dict) else ()
                entries[kind] += sum(len(c) for c in (held, *values) if isinstance(c, (dict, list, set, deque)))
    return objects, entries


def grown(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    return {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind] > UNDER_WAY}


async def test_after_three_hundred_deployments_nothing_is_more_than_after_a_hundred(rig: Rig, tmp_path: Path) -> None:
    await fill_jobs(rig)
    await deploy(rig, range(HUNDRED))
    first = await count(rig, tmp_path / "first")
    await deploy(rig, range(HUNDRED, 3 * HUNDRED))
    await rig.until(lambda: len(asyncio.all_tasks()) <= first.tasks, "the end of what the deployments started")
    last = await count(rig, tmp_path / "last")
    assert last.ledger == first.ledger
    assert last.files == first.files
    assert {t: n for t, n in last.rows.items() if t not in JOURNALS} == {
        t: n for t, n in first.rows.items() if t not in JOURNALS
    }
    assert (first.rows["commands"], last.rows["commands"]) == (100, 300)
    assert sum(first.objects.values()) > 1_000, "the count sees nothing"
    assert grown(first.objects, last.objects) == {}
    assert grown(first.entries, last.entries) == {}
