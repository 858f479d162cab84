"""What the cloud must hear of jobs reaches the outbox, also when that was full for a while: once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from agent.cloud.dialects.ec import EcDialect
from agent.control.north.northbound import Northbound
from agent.data.outbox import Outbox
from agent.domain.priority import Priority
from agent.ports import OutRecord
from agent.store.outbox import SqliteOutbox
from cloud_stub.reads import Reads
from cloud_stub.store import Received, Store
from tests.control.rig import Rig, manifest, running
from tests.fakes.link import FakeBroker, FakeLink
from tests.faults import loopfs


@contextlib.asynccontextmanager
async def outbox_file(folder: Path, cap_bytes: int) -> AsyncIterator[SqliteOutbox]:
    """A real outbox that is closed at the end, so that its disk can be unmounted."""
    store = SqliteOutbox(folder / "outbox.db", cap_bytes)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def telling(rig: Rig, store: SqliteOutbox) -> AsyncIterator[None]:
    """Jobs are told into `store`, without a link, until the end of the block."""
    outbox = Outbox(store, rig.clock)
    link = FakeLink(FakeBroker())
    north = Northbound(link, EcDialect("gw"), rig.room.inbox, rig.room.wishes, rig.room.ledger, outbox)
    task = asyncio.create_task(north.tell_jobs())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await outbox.close()


async def told(store: SqliteOutbox) -> list[tuple[str, str]]:
    """The jobs in the outbox with their states, in the order of their numbers."""
    records = [each for each in await store.head(1000) if each.kind == "job"]
    bodies = [msgspec.json.decode(each.payload) for each in sorted(records, key=lambda each: each.seq)]
    return [(body["job"], body["state"]) for body in bodies]


def results(states: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [each for each in states if each[1] in ("done", "failed")]


async def deploy(rig: Rig, *versions: str) -> list[tuple[str, str]]:
    """One deployment after the other; the results that must be told."""
    ended = []
    for version in versions:
        kind = "app.upgrade" if "pump" in rig.room.ledger.desired else "app.install"
        job = await rig.job(await rig.send(kind, instance="pump", manifest=manifest(version)))
        ended.append((job.id, job.state.value))
    return ended


async def test_results_that_a_full_disk_refused_are_told_once_and_in_order_when_there_is_room(tmp_path: Path) -> None:
    image = tmp_path / "image"
    loopfs.make(image, "ext4-4k")
    with loopfs.mounted(image, tmp_path / "disk", "ext4-4k") as disk:
        gateway = running(tmp_path / "gw")
        async with outbox_file(disk, 100_000_000) as store, gateway as rig, telling(rig, store):
            first = await deploy(rig, "1")
            await rig.until(lambda: not rig.room.ledger.untold, "the first result")
            ballast = loopfs.fill(disk, 0)
            await fill_what_is_open(store)
            refused = await deploy(rig, "2", "3")
            await asyncio.sleep(1.2)
            assert list(rig.room.ledger.untold) == [id_ for id_, _ in refused]
            ballast.unlink()
            await rig.until(lambda: not rig.room.ledger.untold, "the results", 20)
            assert results(await told(store)) == [*first, *refused]


async def fill_what_is_open(store: SqliteOutbox) -> None:
    """The file has pages of its own to write into: until there are none left."""
    with contextlib.suppress(Exception):
        while True:
            await store.append([OutRecord(Priority.NORMAL, "data", os.urandom(20_000))], "live", 1)


async def test_results_that_a_full_outbox_refused_are_told_once_and_in_order_also_by_the_next_agent(
    tmp_path: Path,
) -> None:
    async with outbox_file(tmp_path, 20_000) as store, running(tmp_path / "gw") as rig:
        await store.append([OutRecord(Priority.CRITICAL, "event", os.urandom(19_900 - 96))], "live", 1)
        async with telling(rig, store):
            refused = await deploy(rig, "1", "2", "3")
            assert list(rig.room.ledger.untold) == [id_ for id_, _ in refused]
        await rig.restart()
        assert list(rig.room.ledger.untold) == [id_ for id_, _ in refused]
        async with telling(rig, store):
            await asyncio.sleep(0.2)
            assert await told(store) == []
            await store.forget([each.row for each in await store.head(10)])
            await rig.until(lambda: not rig.room.ledger.untold, "the results")
            assert await told(store) == refused
        await rig.restart()
        async with telling(rig, store):
            last = await deploy(rig, "4")
            await rig.until(lambda: not rig.room.ledger.untold, "the last result")
            assert results(await told(store)) == [*refused, *last]


async def test_a_result_told_twice_over_a_kill_is_one_result_to_the_cloud(tmp_path: Path) -> None:
    """The agent dies after the outbox's commit and before the mark's: both files as that kill leaves them."""
    async with outbox_file(tmp_path, 1_000_000) as store, running(tmp_path / "gw") as rig:
        async with telling(rig, store):
            ended = await deploy(rig, "1", "2")
            await rig.until(lambda: not rig.room.ledger.untold, "the results")
        await rig.kill()
        with contextlib.closing(sqlite3.connect(rig.root / "state.db", isolation_level=None)) as state:
            assert state.execute("UPDATE jobs SET told=0").rowcount == len(ended)
        await rig.start()
        assert list(rig.room.ledger.untold) == [id_ for id_, _ in ended]
        async with telling(rig, store):
            await rig.until(lambda: not rig.room.ledger.untold, "the results")
        told_twice = results(await told(store))
        sent = [EcDialect("gw").encode(each) for each in await store.head(1000) if each.kind == "job"]
    assert told_twice == [*ended, *ended]
    cloud = Store(tmp_path / "cloud.db")
    cloud.keep([Received(each.topic, each.payload, each.retain) for each in sent], 1)
    feed = Reads(cloud.path).feed("gw", 0, 1000)
    cloud.close()
    heard = [(each["body"]["job"], each["body"]["state"], each["body"]["ts"]) for each in feed]
    assert results([(job, state) for job, state, _ in heard]) == ended
    assert len({(job, ts) for job, _, ts in heard}) == len(heard) == len({each.payload for each in sent})
