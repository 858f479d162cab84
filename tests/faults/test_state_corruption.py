"""Whatever becomes of the bytes of a state file: the agent starts, knows what shall run, says what it lost, goes on."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from agent.domain.journal import Change, Snapshot
from agent.domain.priority import Priority
from agent.errors import Conflict, GatewayError
from agent.ports import OutRecord, Stored
from agent.store.damage import Damaged
from agent.store.outbox import SqliteOutbox
from agent.store.state import StateStore
from tests.faults.corruption import CAP_BYTES, change, desired, leave_behind, spoil

SEEDS = 200
INSTANCES, RECORDS = 12, 120


async def load(folder: Path) -> tuple[Snapshot, int]:
    """Open, read, write, close: the snapshot, and how often the file was mended."""
    store = StateStore(folder / "state.db")
    await store.open()
    try:
        found = await store.load()
        await store.load_alarms()
        await store.commit(Change(desired=(desired(77),)), 1)
        return found, len(store.mended)
    finally:
        await store.close()


async def test_two_hundred_spoilt_state_files_lose_no_instance(tmp_path: Path) -> None:
    await leave_behind(tmp_path / "base", instances=INSTANCES)
    mended = 0
    for seed in range(SEEDS):
        folder = tmp_path / "now"
        shutil.copytree(tmp_path / "base", folder)
        done = spoil(folder, ("state.db", "state.db", "state.db-wal"), seed)
        found, times = await load(folder)
        mended += times
        assert {d.name: d for d in found.desired} == {d.name: d for d in (desired(n) for n in range(1, 13))}, done
        assert {r.hash: r for r in found.releases} == {r.hash: r for n in range(1, 13) for r in change(n).releases}, (
            done
        )
        assert {r.name for r in found.rules} == {f"rule-{n}" for n in range(1, 13)}, done
        assert found.meta["desired_revision"] == "12", done
        again, times = await load(folder)
        assert (times, len(again.desired)) == (0, 13), f"{done}: it does not stay mended"
        shutil.rmtree(folder)
    assert mended > SEEDS / 3, "spoiling does nothing: the test is blind"


async def test_two_hundred_spoilt_outboxes_open_and_number_nothing_twice(tmp_path: Path) -> None:
    await leave_behind(tmp_path / "base", instances=1, records=RECORDS)
    mended = 0
    for seed in range(SEEDS):
        folder = tmp_path / "now"
        shutil.copytree(tmp_path / "base", folder)
        before = await sessions(tmp_path / "base")
        done = spoil(folder, ("outbox.db", "outbox.db-wal"), 10_000 + seed)
        store = SqliteOutbox(folder / "outbox.db", CAP_BYTES)
        await store.open()
        try:
            await store.append([OutRecord(Priority.NORMAL, "data", b"{}")], "live", 1)
            head = await until_sound(store)
            mended += len(store.mended)
        finally:
            await store.close()
        keys = [(r.session, r.priority, r.stream, r.seq) for r in head]
        assert len(set(keys)) == len(keys), done
        newest = [r for r in head if r.payload == b"{}"]
        assert [r.session in before for r in newest] == [False], f"{done}: an old number could be given again"
        shutil.rmtree(folder)
    assert mended > SEEDS / 3, "spoiling does nothing: the test is blind"


async def sessions(folder: Path) -> set[str]:
    """The session of the untouched file, read from a copy."""
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    store = SqliteOutbox(copy / "outbox.db", CAP_BYTES)
    await store.open()
    found = {r.session for r in await store.head(10_000)}
    await store.close()
    shutil.rmtree(copy)
    return found


async def until_sound(store: SqliteOutbox) -> list[Stored]:
    """What is stored; damage found on the way is mended, and asked again."""
    try:
        return await store.head(10_000)
    except Damaged:
        return await store.head(10_000)


async def test_spoilt_files_beside_a_sound_database_change_nothing(tmp_path: Path) -> None:
    await leave_behind(tmp_path / "base", instances=INSTANCES)
    names = tuple(str(p.relative_to(tmp_path / "base")) for p in (tmp_path / "base").glob("*/*.json"))
    for seed in range(40):
        folder = tmp_path / "now"
        shutil.copytree(tmp_path / "base", folder)
        done = spoil(folder, (*names, "facts.json", "facts.json", "facts.json"), seed)
        found, mended = await load(folder)
        assert (mended, {d.name for d in found.desired}) == (0, {f"app-{n}" for n in range(1, 13)}), done
        shutil.rmtree(folder)


async def test_both_spoilt_what_can_be_read_is_kept_and_the_rest_is_named(tmp_path: Path) -> None:
    await leave_behind(tmp_path / "s", instances=3)
    (tmp_path / "s/state.db").write_bytes(random.Random(1).randbytes(20_000))
    (tmp_path / "s/state.db-wal").unlink()  # every page stands in it: it alone would do
    path = tmp_path / "s/instances/app-2.json"
    path.write_bytes(path.read_bytes().replace(b'"LIMIT":2', b'"LIMIT":9'))
    store = StateStore(tmp_path / "s/state.db")
    await store.open()
    assert {d.name for d in (await store.load()).desired} == {"app-1", "app-3"}
    assert "not to be had: instance app-2" in str(store.mended[0])
    await store.close()


async def test_at_most_three_damaged_files_are_kept(tmp_path: Path) -> None:
    await leave_behind(tmp_path / "s", instances=1)
    (tmp_path / "s/state.db-wal").unlink()
    for number in range(6):
        (tmp_path / "s/state.db").write_bytes(b"damaged %d" % number * 100)
        assert (await load(tmp_path / "s"))[1] == 1
    kept = {path.read_bytes()[:9] for path in (tmp_path / "s").glob("state.db.corrupt-*[!ml]")}
    assert kept == {b"damaged 3", b"damaged 4", b"damaged 5"}


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_taken_away_while_the_agent_runs_is_written_again_without_a_loss(
    tmp_path: Path, name: str, *, replaced: bool
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    store = StateStore(folder / "state.db")
    await store.open()
    await store.commit(change(1), 1)
    (folder / name).unlink()
    if replaced:
        (folder / name).write_bytes(b"somebody else's")
    await store.commit(change(2), 2)
    assert [m.lost for m in store.mended] == ["nothing is lost"]
    assert (await store.reply_to("c-1")) is not None
    with pytest.raises(Conflict, match="another agent"):
        await StateStore(folder / "state.db").open()
    assert await store.settled()
    # As a power cut would find it: nothing closed.
    shutil.copytree(folder, tmp_path / "cut")
    await store.close()
    found, mended = await load(tmp_path / "cut")
    assert ({d.name for d in found.desired}, mended) == ({"app-1", "app-2"}, 0)


async def test_damage_met_while_the_agent_runs_is_mended_from_memory(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    await store.open()
    for number in range(1, 40):  # more than the database keeps of itself in memory
        await store.commit(change(number, 150_000), number)
    with (tmp_path / "state.db").open("r+b") as file:
        size = (tmp_path / "state.db").stat().st_size
        file.seek(2 * 4096)
        file.write(random.Random(5).randbytes(size - 2 * 4096))
    refused: list[bool] = []
    for number in range(40, 60):
        try:
            await store.commit(change(number), number)
            await store.reply_to(f"c-{number - 30}")
            await store.load()
        except GatewayError as error:
            refused.append(error.retryable)
            await store.commit(change(number), number)
    assert refused == [True]
    assert "replies to earlier commands" in str(store.mended[0])
    assert {d.name for d in (await store.load()).desired} == {f"app-{n}" for n in range(1, 60)}
    assert len((await store.load()).jobs) == 59
    await store.close()
