"""The agent as a process that can be killed, traced, and told at which moment to die."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import GatewayError
from agent.failpoints import VARIABLE
from agent.http.client import UnixClient
from deploy.lab.process import Child, LabError, wait_until
from tests.faults.lab.warm import Nursery

ANSWERS_WITHIN_S = 10.0
"""The invariant of every fault: the agent answers within this after its start."""
COLD_EVERY = 10
"""Where a nursery forks the agents, every so many starts are ordinary ones."""
ECGW = str(Path(sys.executable).parent / "ecgw")


class AgentProcess:
    """`enter` stands before every command line (into namespaces), `env` comes on top of this process's own.

    With a `nursery` most starts are forks of it.
    """

    def __init__(self, config: Path, state: Path, log: Path) -> None:
        self.config = config
        self.state = state
        self.log = log
        self.env: dict[str, str] = {}
        self.enter: list[str] = []
        self.nursery: Nursery | None = None
        self._starts = 0
        self._failpoint = state.parent / "failpoint"
        self._child: Child | None = None
        self._client = UnixClient(state / "admin.sock", timeout_s=30.0)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._child is not None
        return self._child.pid

    def start(self, *wrap: str, wait: bool = True) -> float:
        """Start it, under `wrap` (strace); the seconds until it answered. LabError when that takes too long or it ends."""
        begun = time.monotonic()
        words = ["run", "--config", str(self.config), "--state", str(self.state)]
        env = {VARIABLE: f"@{self._failpoint}", **self.env}
        cold = self._starts % COLD_EVERY == 0
        self._starts += 1
        if self.nursery is None or cold or wrap or self.enter:
            argv = [*self.enter, *wrap, sys.executable, "-X", "faulthandler", ECGW, *words]
            self._child = Child("agent", argv, self.log, env=env)
        else:
            self._child = self.nursery.bear("agent", words, self.log, env)
        if wait:
            wait_until(self.answers, "the agent answers", ANSWERS_WITHIN_S, child=self._child)
        return time.monotonic() - begun

    def arm(self, failpoint: str) -> None:
        """Have the agent die at this moment, counted from now on."""
        scratch = self._failpoint.with_suffix(".new")
        scratch.write_text(failpoint)
        scratch.rename(self._failpoint)

    def disarm(self) -> None:
        """Let it live."""
        self._failpoint.unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Send a signal."""
        if self._child is not None:
            self._child.signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self._child is not None:
            self._child.kill()

    def reap(self) -> None:
        """Collect it after it died by itself."""
        self.kill()

    def end(self) -> None:
        """SIGTERM, as a service manager does."""
        if self._child is not None:
            self._child.end(grace_s=15.0)

    def answers(self) -> bool:
        """Whether it is ready."""
        try:
            answer = self._client.request("GET", "/v1/health", timeout_s=2.0)
        except (GatewayError, OSError):
            return False
        return answer.status == 200 and bool(answer.body.get("ready"))

    def send(self, command: str, params: Mapping[str, Any] | None = None, *, within_s: float = 30.0) -> dict[str, Any]:
        """One command's reply. LabError when it is refused, GatewayError when nobody answers."""
        body = {"id": uuid.uuid4().hex, "type": command, "params": dict(params or {})}
        answer = self._client.request("POST", "/v1/commands", body, timeout_s=within_s)
        if answer.status >= 400:
            raise LabError(f"{command} is refused with {answer.status}", str(answer.body))
        return dict(answer.body)

    def ask(self, command: str, params: Mapping[str, Any] | None = None) -> Any:
        """The data of a command's reply."""
        return self.send(command, params).get("data")


def strace(options: Sequence[str], paths: Sequence[Path] = ()) -> list[str]:
    """The beginning of an strace command line. No `--seccomp-bpf`: at such a stop no signal can be injected."""
    argv = ["strace", "-f", "-y", "-q"]
    for path in paths:
        argv += ["-P", str(path)]
    for expression in options:
        argv += ["-e", expression]
    return argv


def attach(pid: int, options: Sequence[str], out: Path, paths: Sequence[Path] = ()) -> Child:
    """strace on all threads of a running agent."""
    tracer = Child("strace", [*strace(options, paths), "-o", str(out), "-p", str(pid)], out.with_suffix(".log"))
    wait_until(lambda: _is_traced(pid), "strace has all threads of the agent", 10.0, child=tracer)
    return tracer


def _is_traced(pid: int) -> bool:
    threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return bool(threads) and all("TracerPid:\t0\n" not in status for status in threads)
