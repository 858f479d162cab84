"""A client for the gateway's own sockets, for the command line: quick to import.

It speaks as much of HTTP/1.1 as `agent.http.server` answers with: a length, or a stream that ends with the connection.
`http.client` would do it too, but loads the e-mail parser and TLS, a third of what a start of `ecgw` takes.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from agent.errors import GatewayError, TimedOut, Unreachable, from_problem

MAX_LINE_BYTES = 65_536
MAX_DIGITS = 10
"""Of an answer's length: more is no agent's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer; `body` is parsed where it is JSON, else the text."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Event:
    """One Server-Sent Event; `data` is parsed where it is JSON."""

    name: str
    data: Any
    id: str = ""


class UnixClient:
    """Sync requests over the Unix socket at `path`, one connection each.

    Raises Unreachable when nobody listens or the answer breaks off, and TimedOut after `timeout_s` without an answer.
    """

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Reply:
        """Send one request; `body` goes as JSON. A problem document is an answer like any other: look at `status`."""
        with self._exchange(method, path, body, timeout_s or self._timeout_s) as answer:
            return answer.whole()

    def stream(self, path: str, *, silence_s: float = 60.0) -> Generator[Event, None, None]:
        """The events of a stream until it ends. Raises TimedOut after `silence_s` without a byte, and the error that
        the problem stands for when the stream is refused."""
        with self._exchange("GET", path, None, silence_s) as answer:
            if answer.status != 200:
                reply = answer.whole()
                raise from_problem(reply.status, reply.body if isinstance(reply.body, dict) else {})
            yield from answer.events()

    @contextlib.contextmanager
    def _exchange(self, method: str, path: str, body: Any, timeout_s: float) -> Iterator[_Answer]:
        payload = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{kind}\r\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(timeout_s)
                sock.connect(str(self._path))
                with contextlib.suppress(BrokenPipeError):  # refused in mid-sentence: the answer says why
                    sock.sendall(head.encode("ascii") + payload)
                with sock.makefile("rb") as incoming:
                    yield _Answer(incoming)
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> GatewayError:
        if isinstance(error, TimeoutError):
            return TimedOut("client.timed_out", f"no answer at {self._path}", hint="is the gateway overloaded?")
        if isinstance(error, PermissionError):
            return Unreachable("client.denied", f"may not open {self._path}", hint="run it as root")
        return Unreachable(
            "client.unreachable", f"nobody answers at {self._path}: {error}", hint="is `ecgw run` running?"
        )


class _Answer:
    """An answer whose head has been read. Raises OSError for what breaks off or is no HTTP."""

    def __init__(self, incoming: BinaryIO) -> None:
        self._incoming = incoming
        start = self._line().split(None, 2)
        if len(start) < 2 or not start[0].startswith(b"HTTP/1.") or not start[1].isdigit():
            raise ConnectionError("what answers speaks no HTTP")
        self.status = int(start[1])
        self._headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            self._headers[name.lower()] = value.strip()

    def whole(self) -> Reply:
        """The answer with its body."""
        length = self._headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) <= MAX_DIGITS):
            raise ConnectionError("what answers speaks no HTTP")
        size = int(length)
        raw = self._incoming.read(size)
        if len(raw) < size:
            raise ConnectionResetError("the answer broke off")
        return Reply(self.status, _parse(raw, self._headers.get("content-type", "")))

    def events(self) -> Iterator[Event]:
        """The events of a stream, to its end."""
        name, event_id, data = "message", "", list[str]()
        for raw in self._incoming:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                if data:
                    yield Event(name, _parse("\n".join(data).encode(), "json"), event_id)
                name, event_id, data = "message", "", []
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                event_id = value
            elif field == "data":
                data.append(value)

    def _line(self) -> bytes:
        line = self._incoming.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the answer broke off")
        return line.rstrip(b"\r\n")


def _parse(raw: bytes, content_type: str) -> Any:
    if "json" in content_type:
        with contextlib.suppress(ValueError):
            return json.loads(raw)
    return raw.decode("utf-8", "replace")
