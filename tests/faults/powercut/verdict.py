"""What a power cut left, held against what had been acknowledged: a list of what is wrong, empty when nothing is."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from agent.domain.priority import Priority
from agent.host.snapshots import VolumeSnapshots
from agent.ports import OutRecord
from agent.registry.kept import Kept
from agent.store.mirror import unseal
from agent.store.outbox import SqliteOutbox
from agent.store.state import StateStore
from tests.faults.corruption import CAP_BYTES, change
from tests.faults.powercut.work import volume_of


async def judge(folder: Path, said: Sequence[str]) -> list[str]:
    """Open everything as the next agent would, after looking at the files as they are."""
    acknowledged: dict[str, list[str]] = defaultdict(list)
    for line in said:
        word, _, what = line.partition(" ")
        acknowledged[word].append(what)
    wrong = _files(folder, acknowledged)
    try:
        wrong += await _state(folder, acknowledged)
        wrong += await _outbox(folder, acknowledged)
        wrong += await _copies(folder, acknowledged)
    except Exception as error:
        wrong.append(f"cannot be opened: {type(error).__name__}: {error}")
    return wrong


def _files(folder: Path, acknowledged: dict[str, list[str]]) -> list[str]:
    files = [*folder.glob("*/*.json"), *folder.glob("*.json")]
    wrong = [f"{path.name} does not parse" for path in files if unseal(path.read_bytes()) is None]
    for number in acknowledged["file"]:
        names = (f"instances/app-{number}.json", f"releases/{int(number):064x}.json", f"rules/rule-{number}.json")
        wrong += [f"{name} was acknowledged and is not there" for name in names if not (folder / name).exists()]
    blobs = folder / "blobs/sha256"
    whole = {p.name for p in blobs.glob("*") if not p.name.endswith(".part")} if blobs.exists() else set()
    hashes = {name: hashlib.sha256((blobs / name).read_bytes()).hexdigest() for name in whole}
    wrong += [f"blob {name} is not what its name says" for name, found in hashes.items() if found != name]
    wrong += [
        f"{digest} was acknowledged and is not there" for digest in acknowledged["blob"] if digest[7:] not in whole
    ]
    kept = Kept(folder / "kept")
    wrong += [f"document {digest} is not there" for digest in acknowledged["doc"] if kept.read(digest) is None]
    return wrong


async def _state(folder: Path, acknowledged: dict[str, list[str]]) -> list[str]:
    wrong = []
    store = StateStore(folder / "state.db")
    await store.open()
    try:
        found = await store.load()
        wrong += [f"a power cut was taken for damage: {each}" for each in store.mended]
        there = {d.name: d for d in found.desired}
        releases, jobs = {r.hash for r in found.releases}, {j.id for j in found.jobs}
        for number in map(int, [*acknowledged["state"], *acknowledged["file"]]):
            wanted = change(number)
            if there.get(f"app-{number}") != wanted.desired[0]:
                wrong.append(f"instance {number} was acknowledged and is lost")
            if wanted.releases[0].hash not in releases or f"job-{number}" not in jobs:
                wrong.append(f"half of change {number} is lost")
            if await store.reply_to(f"c-{number}") is None:
                wrong.append(f"the reply to {number} is lost")
        await store.commit(change(9999), 1)
        if not await store.settled():
            wrong.append("the files are not brought up to date")
    finally:
        await store.close()
    return wrong


async def _copies(folder: Path, acknowledged: dict[str, list[str]]) -> list[str]:
    copies = VolumeSnapshots(folder / "snapshots", reserve_bytes=0)
    await copies.load()
    held = {key for key, _ in copies.held("pump")}
    wrong = [f"copy {n} was acknowledged and is lost" for n in acknowledged["copy"] if f"key-{n}" not in held]
    for key in held:
        data = folder / "snapshots/pump" / key / "data/data"
        if not data.exists() or data.read_bytes() != volume_of(int(key.removeprefix("key-"))):
            wrong.append(f"copy {key} counts and is not whole")
    return wrong


async def _outbox(folder: Path, acknowledged: dict[str, list[str]]) -> list[str]:
    store = SqliteOutbox(folder / "outbox.db", CAP_BYTES)
    await store.open()
    try:
        wrong = [f"a power cut was taken for damage: {each}" for each in store.mended]
        await store.append([OutRecord(Priority.NORMAL, "data", b"new")], "live", 1)
        head = await store.head(100_000)
        there = {r.payload.decode() for r in head}
        wanted = {f"{number}-{n}" for number in acknowledged["outbox"] for n in range(3)} - set(acknowledged["sent"])
        wrong += [f"record {each} was acknowledged and is lost" for each in sorted(wanted - there)]
        keys = [(r.session, r.stream, r.seq) for r in head]
        if len(set(keys)) != len(keys):
            wrong.append("a number was given twice")
        return wrong
    finally:
        await store.close()
