"""What a handler gets and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from agent.errors import Malformed

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"


@dataclass(slots=True)
class Peer:
    """The process at the other end, as the kernel saw it when it connected. `pid` 0: not in our pid namespace.

    `name` is what the socket's check found it to be; "" before that, and where nobody checks.
    """

    pid: int
    uid: int
    gid: int
    name: str = ""


class Request:
    """One request, complete. `params` are the path's, `context` is what the server was built with."""

    __slots__ = ("body", "context", "keep_alive", "method", "params", "path", "peer", "query_text", "raw_headers")

    def __init__(self, method: str, path: str, query_text: str, peer: Peer, context: Any) -> None:
        self.method = method
        self.path = path
        self.query_text = query_text
        self.peer = peer
        self.context = context
        self.params: Mapping[str, str] = {}
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.keep_alive = True

    @property
    def headers(self) -> dict[str, str]:
        """Header fields by lower-case name; a repeated one is joined with commas."""
        found: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's pairs in order. Raises Malformed for more than 32, or for text that is not UTF-8."""
        if not self.query_text:
            return []
        try:
            return parse_qsl(self.query_text, keep_blank_values=True, max_num_fields=32, errors="strict")
        except ValueError:
            raise Malformed(
                "http.bad_query", "the query is not UTF-8 or has more than 32 fields", hint="percent-encode UTF-8"
            ) from None

    def json(self) -> Any:
        """The body as JSON. Raises Malformed."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed("http.bad_json", f"the body is not JSON: {error}", hint="send one JSON value") from None
        except RecursionError:
            raise Malformed("http.bad_json", "the body is nested too deeply", hint="send it flatter") from None


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer. `headers` are extra ones; length, type and connection are the server's."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Sink(Protocol):
    """Where a stream's feed puts its events.

    `on_ready`, if set, is called each time everything written has left this process after it had been blocked.
    """

    closed: bool
    on_ready: Callable[[], None] | None

    @property
    def blocked(self) -> bool:
        """True while something written before has not left this process."""
        ...

    def send(self, event: str, data: bytes, event_id: str = "") -> None:
        """Write one event now. A reader that leaves too much unread is cut; after that nothing is written."""
        ...

    def write(self, frame: bytes) -> None:
        """Like `send`, for several events already encoded (`events.encode_event`)."""
        ...

    async def ready(self) -> None:
        """Return once the reader has taken what was written: for feeds that can merge what they hold back."""
        ...


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: Server-Sent Events. The handler subscribes, `feed` writes, `on_close` unsubscribes.

    `feed` is cancelled when the reader goes; `on_close` is called exactly once, even if `feed` never ran.
    """

    feed: Callable[[Sink], Awaitable[None]]
    on_close: Callable[[], None] = field(default=_nothing)
    beat_s: float = 0.0
    """Seconds between two comments while nothing else is sent; 0: the server's own."""


Answer = Response | Stream
Handler = Callable[[Request], Answer | Awaitable[Answer]]


def json_response(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """`value` (anything msgspec encodes) as JSON."""
    return Response(status, msgspec.json.encode(value), JSON, headers)
