"""Death at a system call: strace counts the calls that write or sync, and kills the agent at the n-th of a kind.

strace counts per thread; each of the two databases has a thread of its own, whose calls are picked by the files they touch.
A call at which the agent is killed does not happen; some calls are those of programs that the agent starts (`cp`).
strace takes hold of a running agent, just before the operation;
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
from deploy.lab.process import Child, LabError
from tests.faults.campaign import MISSED, NEARER, HarnessFault
from tests.faults.lab.agent import ANSWERS_WITHIN_S, attach, strace
from tests.faults.lab.gateway import FINAL, JOB_WITHIN_S, Gateway, wait_for_death
from tests.faults.lab.kill import recover

DATABASE = ("pwrite64", "fdatasync", "fsync", "ftruncate")
FILES = (
    "write", "pwritev2", "writev", "copy_file_range", "sendfile", "rename", "renameat2", "link", "unlink", "unlinkat", "mkdir", "rmdir",
    "fsync", "fdatasync", "syncfs", "ftruncate", "fchmod", "chmod", "fchown", "lchown", "utimensat", "symlink",
)  # fmt: skip
GROUPS: Mapping[str, Sequence[str]] = {"state": DATABASE, "outbox": DATABASE, "files": FILES}
AT_REST = "start"
"""The operation that is none: the agent starts, finds its pump running, and goes on."""
AT_REST_S = 0.5
_KILLED = "+++ killed by SIGKILL +++"
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
            time.sleep(AT_REST_S)
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
    """Kill whoever makes the n-th `call` of a thread, counted from the beginning of `operation`.

    Commits are grouped, so not every run makes as many calls: where the moment does not come it is tried again, then
    a nearer one, a few times.
    """
    for tried in nearer_moments(number):
        problem = _kill_once(gateway, operation, group, call, tried)
        if problem != MISSED:
            return problem or ("" if tried == number else f"{NEARER}at {call} {tried} of {group}, not {number}")
    return MISSED


def nearer_moments(number: int) -> list[int]:
    """What is tried in turn for the n-th call."""
    return [number, number, *dict.fromkeys(max(1, near) for near in (number - 1, number - 2, number * 3 // 4))]


def _kill_once(gateway: Gateway, operation: str, group: str, call: str, number: int) -> str:
    _prepare(gateway, operation)
    before, goal = gateway.version, before_or_goal(gateway, operation)
    request = None if operation == AT_REST else gateway.command(operation)
    injection = [f"trace={call}", f"inject={call}:signal=KILL:when={number}"]
    out = gateway.root / "strace"
    out.unlink(missing_ok=True)
    job = ""
    with _traced(gateway, operation, group, injection, out) as tracer:
        if _is_up(gateway) and request is not None:
            with contextlib.suppress(GatewayError):
                job = str(gateway.agent.send(*request)["job"])
        died = _wait_for_a_death(gateway, job, tracer, out)
        gateway.agent.kill()
    problem = recover(gateway, operation, before, goal, job)
    return problem or ("" if died else MISSED)


def _wait_for_a_death(gateway: Gateway, job: str, tracer: Child | None, out: Path) -> bool:
    """Whether strace killed the agent, or a program that it had started: then it is let go, or it would kill the next.

    The agent then goes on with what it was about, as when such a program is killed by somebody else.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < JOB_WITHIN_S:
        if not gateway.agent.alive:
            gateway.agent.reap()
            return True
        if tracer is not None and _KILLED in out.read_text():
            tracer.end()
            wait_for_death(gateway, job, quiet_s=AT_REST_S)
            return True
        if (job and _is_over(gateway, job)) or (not job and time.monotonic() - begun > AT_REST_S):
            break
        time.sleep(0.05)
    else:
        raise LabError(f"neither the agent nor its job {job} ended within {JOB_WITHIN_S:g} s", str(gateway.agent.log))
    time.sleep(AT_REST_S)  # the last step may still be under way behind the job's end
    return _KILLED in out.read_text()


def _is_over(gateway: Gateway, job: str) -> bool:
    with contextlib.suppress(GatewayError, LabError):
        return gateway.job(job)["state"] in FINAL
    return False


@contextlib.contextmanager
def _traced(gateway: Gateway, operation: str, group: str, options: Sequence[str], out: Path) -> Iterator[Child | None]:
    """The agent under strace (None: strace belongs to it): it must be dead at the end. HarnessFault where strace fails."""
    paths = paths_of(group, gateway.agent.state)
    if operation == AT_REST:
        gateway.agent.kill()
        # -D: the agent, not strace, is our child.
        gateway.agent.start(*strace(options, paths), "-D", "-o", str(out), wait=False)
        yield None
        return
    try:
        tracer = attach(gateway.agent.pid, options, out, paths)
    except LabError as error:
        raise HarnessFault(str(error)) from error
    try:
        yield tracer
    except BaseException:
        gateway.agent.kill()
        tracer.kill()
        raise
    try:
        tracer.wait(10.0)
    except LabError as error:
        tracer.kill()
        raise HarnessFault(str(error)) from error


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
