"""A client for the gateway's own sockets, for the command line: standard library only, quick to import."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import GatewayError, TimedOut, Unreachable


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


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("gateway", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class UnixClient:
    """Sync requests over the Unix socket at `path`, one connection each.

    Raises Unreachable when nobody listens and TimedOut after `timeout_s` without an answer. A problem document is an
    answer like any other: look at `status`.
    """

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Reply:
        """Send one request; `body` goes as JSON."""
        connection, response = self._ask(method, path, body, timeout_s or self._timeout_s)
        try:
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error
        finally:
            connection.close()
        return Reply(response.status, _parse(raw, response.getheader("Content-Type", "")))

    def stream(self, path: str, *, silence_s: float = 60.0) -> Generator[Event, None, None]:
        """The events of a stream until it ends. Raises TimedOut after `silence_s` without a byte, and the problem
        as a GatewayError when the stream is refused."""
        connection, response = self._ask("GET", path, None, silence_s)
        try:
            if response.status != 200:
                raise _refusal(Reply(response.status, _parse(response.read(), "json")))
            yield from _events(response)
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error
        finally:
            connection.close()

    def _ask(
        self, method: str, path: str, body: Any, timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self._path, timeout_s)
        payload = None if body is None else json.dumps(body).encode()
        headers = {} if payload is None else {"Content-Type": "application/json"}
        try:
            with contextlib.suppress(BrokenPipeError):  # refused in mid-sentence: the answer says why
                connection.request(method, path, payload, headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> GatewayError:
        if isinstance(error, TimeoutError):
            return TimedOut("client.timed_out", f"no answer at {self._path}", hint="is the gateway overloaded?")
        if isinstance(error, PermissionError):
            return Unreachable("client.denied", f"may not open {self._path}", hint="run it as root")
        return Unreachable(
            "client.unreachable", f"nobody answers at {self._path}: {error}", hint="is `ecgw run` running?"
        )


def _parse(raw: bytes, content_type: str) -> Any:
    if "json" not in content_type:
        return raw.decode("utf-8", "replace")
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    name, event_id, data = "message", "", list[str]()
    for raw in response:
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


class RefusedError(GatewayError):
    """What the other side said, as an error; `status` is its own."""

    def __init__(self, status: int, body: Any) -> None:
        known = body if isinstance(body, dict) else {}
        super().__init__(
            str(known.get("code", "client.refused")), str(known.get("title", body)), hint=str(known.get("hint", ""))
        )
        self.reply = Reply(status, body)


def _refusal(reply: Reply) -> RefusedError:
    return RefusedError(reply.status, reply.body)
