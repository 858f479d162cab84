"""HTTP over the Unix socket, as little as is needed and nothing that costs time."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from ecsdk.errors import EsdkError, Unavailable

DEFAULT_PATH = "/run/ec/esdk.sock"
MAX_IDLE = 8
FIRST_PAUSE_S = 0.05
LAST_PAUSE_S = 5.0
_JITTER = random.Random()
"""Our own: an APP that seeds the random module for its own ends is not to meet us there."""


def pause_s(attempt: int) -> float:
    """How long to wait before the next attempt: doubling, capped, with jitter, so that many APPs do not come at once."""
    return min(LAST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 10)) * _JITTER.uniform(0.5, 1.0)


class Connection:
    """One connection. Raises OSError for whatever happens to it."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def stale(self) -> bool:
        """True when the gateway has closed it (or said something nobody asked for)."""
        return bool(self._rest or select.select([self._socket], [], [], 0)[0])

    def exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes, bool]:
        """Send a request, read the whole answer: status, body, and whether the connection may be used again."""
        self.ask(method, target, body)
        status, headers = self.read_head()
        answer = self.read_body(int(headers.get("content-length", "0")))
        return status, answer, headers.get("connection", "") != "close"

    def ask(self, method: str, target: str, body: bytes | None) -> None:
        """Send a request."""
        head = f"{method} {target} HTTP/1.1\r\nHost: ec\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        # Refused in mid-sentence: the answer says why.
        with contextlib.suppress(BrokenPipeError):
            self._socket.sendall(head.encode("ascii") + b"\r\n" + (body or b""))

    def read_head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._rest += self._receive()
        start, *lines = self._rest[:end].decode("latin-1").split("\r\n")
        self._rest = self._rest[end + 4 :]
        fields = (line.partition(": ") for line in lines)
        return int(start.split(" ", 2)[1]), {name.lower(): value for name, _, value in fields}

    def read_body(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._rest) < size:
            self._rest += self._receive()
        body, self._rest = self._rest[:size], self._rest[size:]
        return body

    def frames(self, silence_s: float) -> Iterator[bytes]:
        """The frames of an event stream, heartbeats (empty) among them, until it ends."""
        self._socket.settimeout(silence_s)
        while True:
            *frames, self._rest = self._rest.split(b"\n\n")
            yield from frames
            piece = self._socket.recv(65_536)
            if not piece:
                return
            self._rest += piece

    def _receive(self) -> bytes:
        piece = self._socket.recv(65_536)
        if not piece:
            raise ConnectionResetError("the gateway closed the connection")
        return piece

    def shut(self) -> None:
        """Wake whoever reads in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Wire:
    """Requests from any thread. Connections are kept and used again.

    Nothing is sent twice: only opening a connection is tried again, for `patience_s`, and a GET.
    """

    def __init__(self, path: str | None, timeout_s: float, patience_s: float) -> None:
        self.path = path or os.environ.get("EC_ESDK") or DEFAULT_PATH
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def request(self, method: str, target: str, body: Any = None) -> Any:
        """The answer's JSON. Raises EsdkError when refused and Unavailable when nobody answers."""
        payload = None if body is None else json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        until_s = time.monotonic() + self.patience_s
        while True:
            connection = self._take(until_s)
            try:
                status, answer, reusable = connection.exchange(method, target, payload)
            except TimeoutError as error:
                connection.close()
                raise Unavailable(f"no answer within {self.timeout_s:g} s at {self.path}") from error
            except (OSError, ValueError) as error:
                connection.close()
                if method == "GET" and time.monotonic() < until_s:
                    time.sleep(FIRST_PAUSE_S)
                    continue
                raise Unavailable(f"the connection to {self.path} broke: {error}") from error
            self._give_back(connection, reusable)
            return read_answer(status, answer)

    def connect(self, timeout_s: float | None = None) -> Connection:
        """A new connection. Raises OSError."""
        return Connection(self.path, self.timeout_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Close what is kept."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, until_s: float) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if not connection.stale():
                return connection
            connection.close()
        attempt = 0
        while True:
            try:
                return self.connect()
            except OSError as error:
                wait_s = pause_s(attempt)
                if time.monotonic() + wait_s >= until_s:
                    raise Unavailable(f"nobody answers at {self.path}: {error}") from error
                time.sleep(wait_s)
                attempt += 1

    def _give_back(self, connection: Connection, reusable: bool) -> None:
        with self._lock:
            if reusable and not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()


def read_answer(status: int, answer: bytes) -> Any:
    """The JSON of a good answer; the problem of any other as an EsdkError."""
    try:
        body = json.loads(answer) if answer else None
    except ValueError:
        body = {"title": answer[:200].decode("utf-8", "replace")}
    if status >= 400:
        raise EsdkError(status, body if isinstance(body, dict) else {})
    return body
