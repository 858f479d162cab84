"""What any outbox store promises: the fake in memory and the SQLite file alike."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.domain.priority import Priority
from agent.errors import NoSpace
from agent.ports import OutboxStore, OutRecord
from agent.store.inode import name_open_file
from agent.store.outbox import SqliteOutbox
from tests.fakes.outbox import FakeOutboxStore

CRITICAL, NORMAL, BULK = Priority.CRITICAL, Priority.NORMAL, Priority.BULK
CAP_BYTES = 10_000


@pytest.fixture(params=["fake", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OutboxStore]:
    if request.param == "fake":
        yield FakeOutboxStore(CAP_BYTES)
        return
    sqlite = SqliteOutbox(tmp_path / "outbox.db", CAP_BYTES)
    await sqlite.open()
    yield sqlite
    await sqlite.close()


def record(priority: Priority, kind: str = "data") -> OutRecord:
    return OutRecord(priority, kind, os.urandom(100).hex().encode())


def blob(priority: Priority, size: int) -> OutRecord:
    """A payload that does not compress, so that bytes can be counted."""
    return OutRecord(priority, "data", os.urandom(size), 1)


def totals(depth: object) -> dict[tuple[str, str, str], dict[str, int]]:
    return {(t["priority"], t["stream"], t["kind"]): t for t in depth["totals"]}  # type: ignore[index]


async def test_critical_comes_first_and_each_priority_in_order_of_age(store: OutboxStore) -> None:
    await store.append([record(BULK), record(NORMAL), record(CRITICAL, "event")], "live", 1)
    await store.append([record(CRITICAL, "event"), record(NORMAL)], "live", 2)
    head = await store.head(10)
    assert [(s.priority, s.seq) for s in head] == [(CRITICAL, 1), (CRITICAL, 2), (NORMAL, 1), (NORMAL, 2), (BULK, 1)]
    assert [s.created_ms for s in head] == [1, 2, 1, 2, 1]


async def test_numbers_have_no_holes_within_priority_and_stream(store: OutboxStore) -> None:
    await store.append([record(NORMAL), record(NORMAL)], "hist", 1)
    await store.append([record(NORMAL), record(CRITICAL, "event")], "live", 2)
    await store.append([record(NORMAL)], "hist", 3)
    got = sorted((s.priority, s.stream, s.seq) for s in await store.head(10))
    assert got == [
        (CRITICAL, "live", 1),
        (NORMAL, "hist", 1),
        (NORMAL, "hist", 2),
        (NORMAL, "hist", 3),
        (NORMAL, "live", 1),
    ]


async def test_jobs_and_replies_leave_no_holes_in_live_and_hist(store: OutboxStore) -> None:
    await store.append([record(CRITICAL, "event"), record(CRITICAL, "job"), record(CRITICAL, "reply")], "live", 1)
    await store.append([record(CRITICAL, "event")], "live", 1)
    assert [(s.kind, s.stream, s.seq) for s in await store.head(10)] == [
        ("event", "live", 1), ("job", "job", 1), ("reply", "reply", 1), ("event", "live", 2)
    ]  # fmt: skip


async def test_what_is_not_forgotten_comes_again_and_what_is_forgotten_never(store: OutboxStore) -> None:
    await store.append([record(NORMAL) for _ in range(3)], "live", 1)
    first = await store.head(2)
    await store.forget([first[0].row])
    again = await store.head(10)
    assert [s.seq for s in again] == [2, 3]
    await store.forget([s.row for s in again] + [s.row for s in again])
    assert await store.head(10) == []


async def test_payload_and_count_come_back_as_they_went_in(store: OutboxStore) -> None:
    long = b'{"items":[' + b",".join(b'{"p":"boiler/temp","v":1.5}' for _ in range(50)) + b"]}"
    await store.append([OutRecord(NORMAL, "data", long, 50), OutRecord(BULK, "data", b"{}", 1)], "live", 9)
    first, second = await store.head(2)
    assert (first.payload, first.count, first.kind) == (long, 50, "data")
    assert second.payload == b"{}"


async def test_a_full_store_drops_the_oldest_bulk_and_says_exactly_which(store: OutboxStore) -> None:
    await store.append([blob(NORMAL, 1000)], "live", 1)
    for _ in range(20):
        await store.append([blob(BULK, 1000)], "live", 2)
    depth = await store.depth()
    assert depth["bytes"] <= CAP_BYTES
    head = await store.head(100)
    gap = msgspec.json.decode(head[0].payload)
    kept = [s.seq for s in head if s.priority is BULK]
    assert kept == list(range(kept[0], 21))
    assert {k: gap[k] for k in ("type", "priority", "stream", "from", "to", "records", "samples")} == {
        "type": "gap", "priority": "bulk", "stream": "live", "from": 1, "to": kept[0] - 1,
        "records": kept[0] - 1, "samples": kept[0] - 1,
    }  # fmt: skip
    assert (head[0].priority, head[0].kind, head[1].priority) == (CRITICAL, "event", NORMAL)
    total = totals(await store.depth())["bulk", "live", "data"]
    assert total["added_records"] == 20 == total["dropped_records"] + len(kept)


async def test_normal_goes_only_when_no_bulk_is_left(store: OutboxStore) -> None:
    await store.append([blob(NORMAL, 1000) for _ in range(5)] + [blob(BULK, 1000) for _ in range(3)], "hist", 1)
    await store.append([blob(CRITICAL, 5000)], "hist", 2)
    head = await store.head(100)
    gaps = [msgspec.json.decode(s.payload) for s in head if s.payload.startswith(b"{")]
    assert [(g["priority"], g["from"], g["to"]) for g in gaps] == [("bulk", 1, 3), ("normal", 1, 1)]


async def test_bulk_never_drives_out_normal_it_goes_itself_and_is_numbered(store: OutboxStore) -> None:
    await store.append([blob(NORMAL, 1000) for _ in range(9)], "hist", 1)
    await store.append([blob(BULK, 1000)], "hist", 2)
    head = await store.head(100)
    assert [s.priority for s in head].count(NORMAL) == 9
    assert [s.priority for s in head].count(BULK) == 0
    gap = msgspec.json.decode(head[0].payload)
    assert (gap["priority"], gap["from"], gap["to"]) == ("bulk", 1, 1)


async def test_critical_is_never_dropped_and_refused_when_nothing_else_is_left(store: OutboxStore) -> None:
    await store.append([blob(CRITICAL, 1000) for _ in range(9)], "hist", 1)
    before = await store.depth()
    with pytest.raises(NoSpace) as refused:
        await store.append([blob(CRITICAL, 500), blob(CRITICAL, 500)], "hist", 2)
    assert refused.value.code == "outbox.full"
    after = await store.depth()
    assert after == {**before, "disk_free_bytes": after["disk_free_bytes"]}  # others write to the disk too
    await store.append([blob(NORMAL, 1000)], "hist", 3)
    assert [s.seq for s in await store.head(100) if s.priority is CRITICAL and s.kind == "data"] == list(range(1, 10))


async def test_a_record_on_its_way_is_not_dropped(store: OutboxStore) -> None:
    await store.append([blob(BULK, 1000) for _ in range(9)], "hist", 1)
    flying = await store.head(2)
    await store.append([blob(BULK, 1000)], "hist", 2)
    head = await store.head(100)
    assert [s.seq for s in head if s.priority is BULK] == [1, 2, *range(4, 11)]
    assert {s.row for s in flying} <= {s.row for s in head}
    gaps = [msgspec.json.decode(s.payload) for s in head if s.priority is CRITICAL]
    assert [(g["from"], g["to"]) for g in gaps] == [(3, 3)]


async def test_counts_add_up_after_everything(store: OutboxStore) -> None:
    for number in range(30):
        await store.append([OutRecord(BULK, "data", os.urandom(700), number)], "live", number)
    for stored in (await store.head(5))[1:]:
        await store.forget([stored.row])
    depth = await store.depth()
    total = totals(depth)["bulk", "live", "data"]
    assert total["added_records"] == total["sent_records"] + total["dropped_records"] + depth["records"]["bulk"]
    assert total["added_samples"] == sum(range(30))
    assert {"priority": "bulk", "stream": "live", "last_seq": 30} in depth["streams"]


async def test_a_reopened_file_goes_on_with_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = SqliteOutbox(path, CAP_BYTES)
    await first.open()
    await first.append([record(NORMAL), record(NORMAL)], "live", 1)
    await first.forget([(await first.head(1))[0].row])
    session = first.session
    await first.close()
    second = SqliteOutbox(path, CAP_BYTES)
    await second.open()
    await second.append([record(NORMAL)], "live", 2)
    assert [(s.session, s.seq) for s in await second.head(10)] == [(session, 2), (session, 3)]
    await second.close()


async def test_a_restored_copy_begins_a_new_session_and_keeps_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = SqliteOutbox(path, CAP_BYTES)
    await first.open()
    await first.append([record(NORMAL)], "live", 1)
    session = first.session
    await first.close()
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    second = SqliteOutbox(path, CAP_BYTES)
    await second.open()
    await second.append([record(NORMAL)], "live", 2)
    assert [(s.session, s.seq) for s in await second.head(10)] == [(session, 1), (second.session, 1)]
    assert second.session != session
    await second.close()


async def test_a_copy_that_gets_the_freed_number_of_the_original_begins_a_new_session(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = SqliteOutbox(path, CAP_BYTES)
    await first.open()
    await first.append([record(NORMAL)], "live", 1)
    await first.close()
    backup, number = path.read_bytes(), path.stat().st_ino
    path.unlink()
    for attempt in range(100):  # ext4 gives the number to the next file, tmpfs to none
        path = tmp_path / f"restored-{attempt}.db"
        path.write_bytes(backup)
        if path.stat().st_ino == number:
            break
    second = SqliteOutbox(path, CAP_BYTES)
    await second.open()
    await second.append([record(NORMAL)], "live", 2)
    assert [(s.session, s.seq) for s in await second.head(10)] == [(first.session, 1), (second.session, 1)]
    assert second.session != first.session
    await second.close()


async def test_naming_the_file_leaves_the_locks_on_it_alone(tmp_path: Path) -> None:
    store = SqliteOutbox(tmp_path / "outbox.db", CAP_BYTES)
    await store.open()
    await store.append([record(NORMAL)], "live", 1)
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM records').fetchone()"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "outbox.db"), stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(other.communicate(), 30)
    assert b"database is locked" in said
    await store.close()


def test_where_no_generation_is_told_device_and_number_name_the_file() -> None:
    with Path("/proc/uptime").open() as held:
        name, found = name_open_file(Path("/proc/uptime")), os.fstat(held.fileno())
    assert name == f"{found.st_dev}:{found.st_ino}:"
