"""Agents forked from a process that has loaded their code already: loading it is two thirds of an agent's CPU time here.

Everything that an agent does, it does after the fork: its own session, log, environment, threads, files, start and
death. `AgentProcess` starts one in ten in the ordinary way, and every one that is traced from its first call.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.lab.process import Child, LabError

REAP_EVERY_S = 1.0
LOADED = ("agent.cli.main", "agent.cli.run", "agent.settings", "agent.daemon", "agent.control.calendar")
"""What every agent would have to load."""


class Nursery:
    """The process that forks. It ends with this one, and its agents with it."""

    def __init__(self, log: Path) -> None:
        mine, its = socket.socketpair()
        argv = [sys.executable, "-X", "faulthandler", "-m", "tests.faults.lab.warm", str(its.fileno())]
        log.parent.mkdir(parents=True, exist_ok=True)
        with its, log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[its.fileno()], start_new_session=True
            )
        self._socket = mine
        self._lines = mine.makefile("r")

    def bear(self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> Child:
        """Fork one that runs ``ecgw argv``."""
        order = {"argv": list(argv), "log": str(log), "env": dict(env)}
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        answer = self._lines.readline()
        if not answer:
            raise LabError("the process that forks agents is gone", f"its exit code: {self._process.poll()}")
        return ForkedChild(name, int(answer), log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()
        self._process.wait(10)


class ForkedChild(Child):
    """A child of the nursery's, watched by its pid's descriptor: nobody else can get that pid meanwhile."""

    def __init__(self, name: str, pid: int, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = _Watched(pid)  # type: ignore[assignment]


class _Watched:
    """As much of `subprocess.Popen` as `Child` uses. The exit code is not known: -1."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return -1 if self._over(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._over(timeout):
            raise subprocess.TimeoutExpired("agent", timeout or 0)
        return -1

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _over(self, within_s: float | None) -> bool:
        if self._descriptor < 0:
            return True
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        if not poller.poll(None if within_s is None else within_s * 1000):
            return False
        os.close(self._descriptor)
        self._descriptor = -1
        return True


def serve(door: socket.socket) -> None:
    """Fork at every order, until whoever gives them is gone."""
    for name in LOADED:
        import_module(name)
    assert threading.active_count() == 1, "a fork takes no thread along"
    living: set[int] = set()
    rest = b""
    while True:
        if select.select([door], [], [], REAP_EVERY_S)[0]:
            piece = door.recv(65_536)
            if not piece:
                break
            *orders, rest = (rest + piece).split(b"\n")
            for order in orders:
                pid = os.fork()
                if pid == 0:
                    door.close()
                    _live(json.loads(order))
                living.add(pid)
                door.sendall(f"{pid}\n".encode())
        living -= {pid for pid in living if os.waitpid(pid, os.WNOHANG)[0]}
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _live(order: Mapping[str, Any]) -> None:
    """Be an agent, and never come back."""
    code = 70
    try:
        os.setsid()
        out = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        os.environ.update(order["env"])
        from agent.cli.main import main

        code = main(order["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
