"""Death at a system call: strace counts the calls that write or sync, and kills the agent at the n-th of a kind.

strace counts per thread; each of the two databases has a thread of its own, whose calls are picked by the files they touch.
A call at which the agent is killed does not happen. strace takes hold of a running agent, just before the operation;
only for calls of its start does it start the agent.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent.errors import GatewayError
from deploy.lab.process import LabError
from tests.faults.campaign import MISSED
from tests.faults.lab.agent import ANSWERS_WITHIN_S, attach, strace
from tests.faults.lab.gateway import Gateway, wait_for_death
from tests.faults.lab.kill import recover

DATABASE = ("pwrite64", "fdatasync", "fsync", "ftruncate")
FILES = (
    "write", "pwritev2", "writev", "copy_file_range", "sendfile", "rename", "renameat2", "link", "unlink", "unlinkat", "mkdir", "rmdir",
    "fsync", "fdatasync", "syncfs", "ftruncate", "fchmod", "chmod", "fchown", "lchown", "utimensat", "symlink",
)  # fmt: skip
GROUPS: Mapping[str, Sequence[str]] = {"state": DATABASE, "outbox": DATABASE, "files": FILES}
AT_REST = "start"
"""The operation that is none: the agent starts, finds its pump running, and goes on."""
_CALL = re.compile(r"^(\d+) +([a-z0-9_]+)\((?:\d+<([^>]*)>)?")


def paths_of(group: str, state: Path) -> list[Path]:
    """The files whose calls are meant; none for all."""
    return [] if group == "files" else [state / f"{group}.db", state / f"{group}.db-wal"]


def count_calls(gateway: Gateway, operation: str) -> dict[tuple[str, str], int]:
    """How many calls of each (group, call) the busiest thread makes in the operation."""
    _prepare(gateway, operation)
    out = gateway.root / "strace"
    out.unlink(missing_ok=True)
    calls = sorted({call for group in GROUPS.values() for call in group})
    with _traced(gateway, operation, "files", [f"trace={','.join(calls)}"], out):
        if operation != AT_REST:
            gateway.complete(operation)
        elif _is_up(gateway):
            time.sleep(0.5)
        gateway.agent.kill()
    gateway.agent.start()
    return read_counts(out.read_text().splitlines())


def read_counts(lines: Sequence[str]) -> dict[tuple[str, str], int]:
    """The counts in strace's output (`-y`: with the files' names). Calls on a database's files are its group's."""
    by_thread: Counter[tuple[str, str, str]] = Counter()
    elsewhere = set()
    for match in filter(None, map(_CALL.match, lines)):
        thread, call, file = match.groups(default="")
        group = next((name for name in ("state", "outbox") if f"/{name}.db" in file), "files")
        if group == "files":
            elsewhere.add(call)
        else:
            by_thread[thread, group, call] += 1
        by_thread[thread, "files", call] += 1
    found: dict[tuple[str, str], int] = {}
    for (_, group, call), count in by_thread.items():
        if group != "files" or call in elsewhere:
            found[group, call] = max(count, found.get((group, call), 0))
    return {key: found[key] for key in sorted(found) if key[1] in GROUPS[key[0]]}


def kill_at_call(gateway: Gateway, operation: str, group: str, call: str, number: int) -> str:
    """Kill the agent at the n-th `call` of a thread, counted from the beginning of `operation`."""
    _prepare(gateway, operation)
    before, goal = gateway.version, before_or_goal(gateway, operation)
    request = None if operation == AT_REST else gateway.command(operation)
    injection = [f"trace={call}", f"inject={call}:signal=KILL:when={number}"]
    job = ""
    with _traced(gateway, operation, group, injection, Path("/dev/null")):
        if _is_up(gateway) and request is not None:
            with contextlib.suppress(GatewayError):
                job = str(gateway.agent.send(*request)["job"])
        died = wait_for_death(gateway, job, quiet_s=0.5)
        gateway.agent.kill()
    problem = recover(gateway, operation, before, goal, job)
    return problem or ("" if died else MISSED)


@contextlib.contextmanager
def _traced(gateway: Gateway, operation: str, group: str, options: Sequence[str], out: Path) -> Iterator[None]:
    """The agent under strace: it must be dead at the end."""
    paths = paths_of(group, gateway.agent.state)
    if operation == AT_REST:
        gateway.agent.kill()
        # -D: the agent, not strace, is our child.
        gateway.agent.start(*strace(options, paths), "-D", "-o", str(out), wait=False)
        yield
        return
    tracer = attach(gateway.agent.pid, options, out, paths)
    try:
        yield
    finally:
        tracer.wait(10.0)


def before_or_goal(gateway: Gateway, operation: str) -> str:
    """What the operation leads to; at rest, what is."""
    return gateway.version if operation == AT_REST else gateway.goal(operation)


def _prepare(gateway: Gateway, operation: str) -> None:
    gateway.prepare("upgrade" if operation == AT_REST else operation)


def _is_up(gateway: Gateway) -> bool:
    """Wait until the agent answers (True) or is dead (False)."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while time.monotonic() < deadline:
        if not gateway.agent.alive:
            return False
        if gateway.agent.answers():
            return True
        time.sleep(0.02)
    raise LabError(f"the agent under strace does not answer within {ANSWERS_WITHIN_S:g} s", str(gateway.agent.log))
