"""State files as a gateway leaves them when its power goes, and seeded ways to spoil one of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from agent.domain.alarm import Alarm, Severity
from agent.domain.app import Desired, Layer, Trial, Version, Wanted
from agent.domain.command import Command, Job, JobState, Origin, Reply
from agent.domain.journal import Change, StoredRelease, StoredRule
from agent.domain.priority import Priority
from agent.ports import OutRecord
from agent.store.outbox import SqliteOutbox
from agent.store.state import StateStore

CAP_BYTES = 10_000_000
PAGE = 4096


def desired(number: int, release: str = "") -> Desired:
    """One of the instances."""
    version = Version(release or f"{number:064x}", Layer({"LIMIT": number}), Layer(ports={"bus": f"rs485-{number}"}))
    hold = "stopped at the box" if number % 3 == 0 else ""
    wanted = Wanted.STOPPED if hold else Wanted.RUNNING
    return Desired(f"app-{number}", Origin.CLOUD, wanted, version, trial=Trial.PROVEN, hold=hold)


def change(number: int, filler: int = 500) -> Change:
    """What one deployment writes."""
    text = f"name: app-{number}\n" + f"# {'m' * filler}\n"
    release = StoredRelease(f"{number:064x}", text, "test", {"image:1": f"image@sha256:{number:064x}"})
    job = Job(f"job-{number}", "install", f"app-{number}", f"c-{number}", JobState.DONE)
    command = Command(f"c-{number}", "app.install", {}, Origin.CLOUD)
    return Change(
        command, Reply(f"c-{number}", 202), (desired(number),), releases=(release,), jobs=(job,),
        rules=(StoredRule(f"rule-{number}", "cloud", "rules: []"),), meta=(("desired_revision", str(number)),),
    )  # fmt: skip


async def leave_behind(folder: Path, *, instances: int = 12, records: int = 120) -> None:
    """Files in `folder` as a power cut leaves them: the log not yet taken over, nothing closed."""
    work = folder.parent / f"{folder.name}-work"
    work.mkdir()
    state, outbox = StateStore(work / "state.db"), SqliteOutbox(work / "outbox.db", CAP_BYTES)
    await state.open()
    await outbox.open()
    for number in range(1, instances + 1):
        await state.commit(change(number), number)
        await state.end_step(await state.begin_step(f"app-{number}", "create container", number), "done")
    await state.save_alarm(Alarm("app:app-1", "crash_loop", Severity.MAJOR, "it crashes", 1))
    for number in range(0, records, 10):
        payloads = [f'{{"n": {n}, "text": "{"x" * 400}"}}'.encode() for n in range(number, number + 10)]
        await outbox.append([OutRecord(Priority.NORMAL, "data", each) for each in payloads], "live", number)
    await state.commit(Change(desired=(desired(1),)), 99)
    assert await state.settled()
    shutil.copytree(work, folder)
    await state.close()
    await outbox.close()
    shutil.rmtree(work)


def flip(path: Path, rng: random.Random) -> str:
    """Change up to 16 bytes in a row."""
    data = bytearray(path.read_bytes())
    at, count = rng.randrange(len(data)), rng.choice([1, 1, 2, 16])
    for index in range(at, min(len(data), at + count)):
        data[index] ^= rng.randrange(1, 256)
    path.write_bytes(data)
    return f"{count} bytes from {at}"


def flip_header(path: Path, rng: random.Random) -> str:
    """Change one of the first hundred bytes."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(min(100, len(data)))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"a bit of byte {at}"


def blank_page(path: Path, rng: random.Random) -> str:
    """A page reads as zeros, or as another page."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(max(1, len(data) // PAGE)) * PAGE
    other = rng.randrange(max(1, len(data) // PAGE)) * PAGE
    page = bytes(PAGE) if rng.random() < 0.5 else bytes(data[other : other + PAGE])
    data[at : at + PAGE] = page
    path.write_bytes(data)
    return f"page at {at}"


def cut_off(path: Path, rng: random.Random) -> str:
    """The file ends too early: at a page, or anywhere."""
    size = path.stat().st_size
    at = rng.randrange(size) if rng.random() < 0.3 else rng.randrange(max(1, size // PAGE)) * PAGE
    with path.open("r+b") as file:
        file.truncate(at)
    return f"cut off at {at}"


def lose(path: Path, rng: random.Random) -> str:
    """The file is gone, or empty, or full of something else."""
    kind = rng.randrange(3)
    if kind == 0:
        path.unlink()
    else:
        path.write_bytes(b"" if kind == 1 else rng.randbytes(rng.randrange(1, 9000)))
    return ("gone", "empty", "something else")[kind]


WAYS: tuple[Callable[[Path, random.Random], str], ...] = (flip, flip, flip_header, blank_page, cut_off, lose)


def spoil(folder: Path, names: tuple[str, ...], seed: int) -> str:
    """Spoil one of the files; what was done, in words."""
    rng = random.Random(seed)
    path = folder / rng.choice([name for name in names if (folder / name).stat().st_size])
    return f"seed {seed}: {path.name}: {rng.choice(WAYS)(path, rng)}"
