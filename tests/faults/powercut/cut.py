"""One power cut: the work is killed at its N-th call of a kind, and what the block device was given is looked at."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults import loopfs
from tests.faults.powercut.verdict import judge

CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "write", "ftruncate", "unlink", "mkdir")
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Case:
    """Kill at the `number`-th `call` of a thread."""

    fs: str
    call: str
    number: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.fs} {self.call} {self.number} seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`killed` is False when the work ended before its N-th call."""

    killed: bool
    wrong: tuple[str, ...]


def work(folder: Path, seed: int) -> list[str]:
    return [sys.executable, "-m", "tests.faults.powercut.work", str(folder), str(seed)]


def count_calls(folder: Path, seed: int) -> dict[str, int]:
    """How often the busiest thread of the work makes each call."""
    log = folder / "calls.log"
    (folder / "count").mkdir(exist_ok=True)
    trace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    subprocess.run([*trace, *work(folder / "count", seed)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    counts: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        thread, _, call = line.partition(" ")
        counts[call.strip().partition("(")[0], thread] += 1
    return {call: max((n for (name, _), n in counts.items() if name == call), default=0) for call in CALLS}


def cut(case: Case, folder: Path) -> Outcome:
    """Run one case in `folder`, which keeps an empty file system of each kind for the next."""
    # New files each time: mount takes a loop device that still shows an older content of the same file.
    name = f"{time.monotonic_ns()}"
    empty, image, after = folder / f"{case.fs}.empty", folder / f"disk-{name}", folder / f"after-{name}"
    if not empty.exists():
        loopfs.make(empty, case.fs)
    loopfs.copy(empty, image)
    inject = f"inject={case.call}:signal=KILL:when={case.number}"
    with loopfs.mounted(image, folder / "disk", case.fs) as disk:
        # Not with --seccomp-bpf: strace 6.1 then injects nothing, in silence.
        argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={case.call}", "-e", inject]
        done = subprocess.run(
            [*argv, *work(disk, case.seed)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        loopfs.copy(image, after)  # the power cut: nothing that only the kernel knew
    if done.returncode == 0:
        killed = False
    elif "Traceback" in done.stderr:
        raise RuntimeError(f"{case.key}: the work failed by itself: {done.stderr[-600:]}")
    else:
        killed = True
    said = done.stdout.splitlines()
    with loopfs.mounted(after, folder / "after", case.fs) as left:
        wrong = asyncio.run(judge(left, said))
    image.unlink()
    after.unlink()
    return Outcome(killed, tuple(wrong))
