"""Child processes that never outlive their purpose, ports that nobody else takes, and waiting without guessing."""

import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

# Below the range from which the kernel takes outgoing ports. A client that keeps knocking on a stopped server's port inside
# that range sooner or later gets the very same number for its own end and talks to itself.
_PORTS = range(20_000, 32_000)
_POLL_S = 0.02

_running: list["Child"] = []


class LabError(Exception):
    """A part of the lab did not do what it should; carries what to look at next."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.hint = hint


class Child:
    """One process that this program started, with its output in a log file. It is ended by its pid, and at exit at the latest."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            try:
                # A session of its own: Ctrl-C reaches this program first, which then ends its children in order.
                self._process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=None if env is None else {**os.environ, **env},
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise LabError(f"{argv[0]} is not installed, so {name} cannot start", "run `make setup`") from error
        _running.append(self)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, SIGSTOP for instance, to the process if it still runs."""
        if self.alive:
            self._process.send_signal(number)

    def end(self, grace_s: float = 10.0) -> int:
        """Ask it to end, insist after the grace, and give its exit code."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._reap()

    def kill(self) -> int:
        """End it the hard way, as a power cut would."""
        if self.alive:
            self._process.kill()
        return self._reap()

    def wait(self, within_s: float) -> int:
        """Let it end by itself."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name} still runs after {within_s} s", f"its log is {self.log}") from error
        return self._reap()

    def keep(self) -> None:
        """Leave it running when this program ends (`make demo KEEP=1`); whoever asked for that stops it by its pid."""
        if self in _running:
            _running.remove(self)

    def tail(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _reap(self) -> int:
        code = self._process.wait()
        self.keep()
        return code


def wait_until(holds: Callable[[], bool], what: str, within_s: float, *, child: Child | None = None) -> None:
    """Poll until it holds. Fails at the deadline, and at once if the child it depends on has ended."""
    deadline = time.monotonic() + within_s
    while not holds():
        if child is not None and not child.alive:
            raise LabError(
                f"{child.name} ended with code {child.exit_code} before {what}", f"its last words:\n{child.tail()}"
            )
        if time.monotonic() > deadline:
            seen = f"last lines of {child.log}:\n{child.tail()}" if child else "nothing more is known"
            raise LabError(f"after {within_s:g} s it is still not so that {what}", seen)
        time.sleep(_POLL_S)


def answers_tcp(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def free_port() -> int:
    """A loopback port that nobody listens on now, outside the range of outgoing ports."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LabError("200 loopback ports in a row were taken", "see what listens: ss -ltn")


def end_on_sigterm() -> None:
    """Make SIGTERM unwind this program as Ctrl-C does, so that every part of the lab is ended."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + signal.Signals(number).value)

    signal.signal(signal.SIGTERM, leave)


@atexit.register
def _end_what_is_left() -> None:
    for child in tuple(_running):
        child.end(grace_s=3.0)
