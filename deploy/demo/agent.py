"""The agent as a process of its own, and `ecgw` as people use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.account import ClaimFailed
from deploy.lab.process import Child, LabError, wait_until

BIN = Path(sys.executable).parent
READY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Done:
    """A program that has ended."""

    code: int
    out: str
    err: str


def run_program(argv: Sequence[str], within_s: float = 180.0) -> Done:
    """Run a program to its end."""
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(list(argv), capture_output=True, text=True, check=False, timeout=within_s, env=environment)
    return Done(done.returncode, done.stdout, done.stderr)


class Agent:
    """One gateway's agent. Killing it or ending it leaves its APPs alone; that is a claim of step 6."""

    def __init__(self, config: Path, state: Path, log: Path) -> None:
        self.config = config
        self.state = state
        self.log = log
        self.process: Child | None = None
        self.under: Sequence[str] = ()
        """Stands before its command line."""

    @property
    def socket(self) -> Path:
        """The admin socket."""
        return self.state / "admin.sock"

    def start(self) -> float:
        """Start it and wait until it answers; gives the seconds that took."""
        begun = time.monotonic()
        argv = [*self.under, str(BIN / "ecgw"), "run", "--config", str(self.config), "--state", str(self.state)]
        self.process = Child("agent", argv, self.log)
        wait_until(self._is_ready, "the agent answers on its admin socket", READY_WITHIN_S, child=self.process)
        return time.monotonic() - begun

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()

    def end(self) -> None:
        """SIGTERM, as a service manager does."""
        if self.process is not None:
            self.process.end(grace_s=15.0)

    def run(self, *words: str, within_s: float = 180.0) -> Done:
        """`ecgw` with these words, whatever comes of it."""
        return run_program([str(BIN / "ecgw"), *words, "--socket", str(self.socket)], within_s)

    def ask(self, *words: str, within_s: float = 180.0) -> Any:
        """What `ecgw ... --json` prints. ClaimFailed when it does not end with 0."""
        done = self.run(*words, "--json", within_s=within_s)
        if done.code != 0:
            said = (done.err or done.out).strip()
            raise ClaimFailed(f"ecgw {' '.join(words)} ended with {done.code}: {said}")
        return json.loads(done.out) if done.out.strip() else None

    def watch(self, point_filter: str, log: Path) -> Child:
        """`ecgw point watch FILTER --json` into a file, until it is ended."""
        argv = [str(BIN / "ecgw"), "point", "watch", point_filter, "--json", "--socket", str(self.socket)]
        child = Child("ecgw point watch", argv, log)
        try:
            wait_until(lambda: log.stat().st_size > 0, "ecgw point watch shows a value", 10.0, child=child)
        except LabError:
            child.end()
            raise
        return child

    def _is_ready(self) -> bool:
        from agent.errors import GatewayError
        from agent.http.client import UnixClient

        try:
            answer = UnixClient(self.socket, timeout_s=2.0).request("GET", "/v1/health")
        except (GatewayError, OSError):
            return False
        return answer.status == 200 and bool(answer.body.get("ready"))
