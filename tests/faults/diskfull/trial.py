"""One trial: work, fill the disk to a given rest, go on working, start anew on it, give the space back, work again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import loopfs

ROOT = Path(__file__).parents[3]
NO_SPACE = {"store.full", "outbox.full", "image.no_space"}
FAILED = {"store.failed", "image.store", "image.no_space"}
KINDS = ("state", "outbox", "blob")
ANSWER_WITHIN_S = 30


@dataclass(slots=True)
class Found:
    """What a trial found. `wrong` is empty when every promise held. `struck`: whether there was a fault at all."""

    wrong: list[str] = field(default_factory=list)
    struck: bool = True
    refused: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    def take(self, answer: dict[str, Any], allowed: set[str]) -> None:
        """Note what was done and refused; a refusal of another kind than `allowed` is wrong."""
        for kind in KINDS:
            self.acknowledged[kind] |= set(answer["done"][kind])
        self.refused.update(answer["refused"])
        for code in set(answer["refused"]) - allowed:
            self.wrong.append(f"refused with {code}")

    def look(self, answer: dict[str, Any], when: str) -> None:
        """Everything acknowledged must be readable, and nothing taken for damage."""
        for kind in KINDS:
            if lost := self.acknowledged[kind] - set(answer[kind]):
                self.wrong.append(f"{when}: {kind} lost {sorted(lost)[:3]}")
        self.wrong += [f"{when}: {mended}" for mended in answer["mended"]]


class Talk:
    """The working process. It must never end by itself."""

    def __init__(self, folder: Path, *before: str) -> None:
        argv = [*before, sys.executable, "-m", "tests.faults.diskfull.work", str(folder)]
        self._process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.opened = self._answer()

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line; the answer. RuntimeError when the process is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let it go, whatever it does."""
        try:
            self._process.communicate("end\n" if self._process.poll() is None else None, timeout=ANSWER_WITHIN_S)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, words = self._process.communicate(timeout=ANSWER_WITHIN_S)
            raise RuntimeError(f"the process ended with {self._process.returncode}: {words[-400:]}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def talking(folder: Path, *before: str) -> Iterator[Talk]:
    """A process that is ended."""
    talk = Talk(folder, *before)
    try:
        yield talk
    finally:
        talk.end()


def fill_up(folder: Path, fs: str, leave_kib: int) -> Found:
    """The trial on a new file system of kind `fs`."""
    found = Found()
    image = folder / f"{fs}-{leave_kib}-{time.monotonic_ns()}"
    loopfs.make(image, fs)
    with loopfs.mounted(image, folder / "disk", fs) as disk:
        try:
            _fill_up(disk, leave_kib, found)
        except RuntimeError as error:
            found.wrong.append(str(error))
    image.unlink()
    return found


def _fill_up(disk: Path, leave_kib: int, found: Found) -> None:
    with talking(disk) as talk:
        found.take(talk.ask("try 8"), set())
        found.look(talk.ask("look 0.1"), "before")
        ballast = loopfs.fill(disk, leave_kib * 1024)
        found.take(talk.ask("try 25"), NO_SPACE)
        found.look(talk.ask("look 0.1"), "on the full disk")
    with talking(disk) as talk:
        if "refused_to_open" in talk.opened:
            if talk.opened["refused_to_open"] not in NO_SPACE:
                found.wrong.append(f"does not open: {talk.opened}")
        else:
            found.look(talk.ask("look 0.1"), "started on the full disk")
            found.take(talk.ask("try 3"), NO_SPACE)
            ballast.unlink()
            found.take(talk.ask("try 4"), set())
            after = talk.ask("look 12")
            found.look(after, "with space again")
            if not after["settled"] or set(after["files"]) != set(after["state"]):
                found.wrong.append("the files beside the database are not brought up to date")
            return
    ballast.unlink()
    with talking(disk) as talk:
        found.take(talk.ask("try 4"), set())
        found.look(talk.ask("look 0.1"), "with space again")


def fail_calls(folder: Path, call: str, when: str) -> Found:
    """Every `call` from a moment on (``when`` as strace has it: ``7`` once, ``7+`` for good) says EIO; then a sound disk."""
    found = Found()
    state = folder / f"{call}-{when}"
    state.mkdir()
    out = folder / f"{call}-{when}.strace"
    injection = f"inject={call}:error=EIO:when={when}"
    inject = ("strace", "-f", "-qq", "-o", str(out), "-e", f"trace={call}", "-e", injection)
    try:
        with talking(state, *inject) as talk:
            if "open" in talk.opened:
                found.take(talk.ask("try 12"), FAILED)
            elif talk.opened["refused_to_open"] not in FAILED:
                found.wrong.append(f"does not open: {talk.opened}")
        found.struck = "(INJECTED)" in out.read_text()
        with talking(state) as talk:
            found.look(talk.ask("look 12"), "on a sound disk again")
            found.take(talk.ask("try 2"), set())
    except RuntimeError as error:
        found.wrong.append(str(error))
    return found
