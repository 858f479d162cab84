"""From bytes to requests: httptools with every bound enforced and every doubtful shape refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import httptools

from agent.errors import Busy, GatewayError, Malformed, TooLarge
from agent.http.limits import Limits
from agent.http.messages import Peer, Request
from agent.http.problems import HeadTooLargeError
from agent.http.router import Route, Router


class Budget(Protocol):
    """The bytes of bodies all connections of a socket hold together."""

    bodies_bytes: int


Target = tuple[Route, Mapping[str, str]] | GatewayError


class RequestParser:
    """Feed it bytes; it calls `done(request, target)` for each complete request, in order.

    `feed` raises the GatewayError that ends the connection. The bytes of a body stay on the budget until the
    owner gives them back.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        budget: Budget,
        make: Callable[[str, str, str], Request],
        done: Callable[[Request, Target], None],
        expect: Callable[[], None],
    ) -> None:
        self._router = router
        self._limits = limits
        self._budget = budget
        self._make = make
        self._done = done
        self._expect = expect
        self._parser = httptools.HttpRequestParser(self)
        self._failure: GatewayError | None = None
        self._max_body = limits.body_bytes
        self.in_head = False
        self.in_body = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._loose_bytes = 0
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._request: Request | None = None
        self._target: Target | None = None

    @property
    def idle(self) -> bool:
        """True between two requests."""
        return not (self.in_head or self.in_body)

    def feed(self, data: bytes) -> None:
        """Parse `data`. Raises the GatewayError to answer with before closing."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if self._failure is not None:
                raise self._failure from None
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            # The text is the parser's own and never holds more than a phrase.
            raise Malformed("http.malformed", f"this is not HTTP/1.1: {error}", hint="use an HTTP client") from None
        if self.in_head:
            self._loose_bytes += len(data)
            if self._loose_bytes > self._limits.head_bytes:
                raise _head_too_large(self._limits)

    def drop(self) -> None:
        """Give back the bytes of a body that will not be completed."""
        self._budget.bodies_bytes -= self._body_bytes
        self._body_bytes = 0
        self._body = b""

    def release(self) -> None:
        """Give up the parser, which refers back to this object."""
        self.drop()
        del self._parser

    def _fail(self, error: GatewayError) -> None:
        self._failure = error
        raise error

    # -- called by httptools ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if len(self._headers) >= self._limits.headers:
            self._fail(_head_too_large(self._limits))
        self._headers.append((name, value))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._fail(_head_too_large(self._limits))

    def on_headers_complete(self) -> None:
        self.in_head, self.in_body = False, True
        self._check_shape()
        path, _, query = self._url.decode("ascii", "replace").partition("?")
        request = self._make(self._parser.get_method().decode("ascii"), path, query)
        request.raw_headers = self._headers
        request.keep_alive = self._parser.should_keep_alive()
        self._headers = []  # trailers are counted here and thrown away
        self._request = request
        self._max_body = self._limits.body_bytes
        try:
            self._target = self._router.find(request.method, path)
        except GatewayError as error:
            self._target = error
        else:
            route = self._target[0]
            self._max_body = self._limits.body_bytes if route.max_body is None else route.max_body
        self._check_length(request)

    def _check_shape(self) -> None:
        """Refuse what two programs could read differently."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._fail(Malformed("http.version", f"HTTP/{version} is not spoken here", hint="use HTTP/1.1"))
        if self._parser.should_upgrade():
            self._fail(Malformed("http.upgrade", "no protocol upgrade and no CONNECT here", hint="use plain HTTP/1.1"))
        if not self._url.startswith(b"/") or b"#" in self._url:
            self._fail(Malformed("http.bad_target", "the request target is not a path", hint="start it with '/'"))
        for name, value in self._headers:
            if name.lower() == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
                self._fail(
                    Malformed(
                        "http.transfer_encoding", "only chunked, and only in HTTP/1.1", hint="send Content-Length"
                    )
                )

    def _check_length(self, request: Request) -> None:
        expects = False
        for name, value in request.raw_headers:
            lower = name.lower()
            if lower == b"content-length" and int(value) > self._max_body:
                self._fail(_body_too_large(self._max_body))
            expects = expects or (lower == b"expect" and value.lower() == b"100-continue")
        if expects:
            self._expect()

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._budget.bodies_bytes += len(data)
        if self._body_bytes > self._max_body:
            self._fail(_body_too_large(self._max_body))
        if self._budget.bodies_bytes > self._limits.bodies_bytes:
            self._fail(
                Busy("http.bodies_full", "this socket is receiving too much at once", hint="send fewer at a time")
            )
        if not self._body:
            self._body = data
            return
        if isinstance(self._body, bytes):  # one growing array: a list of tiny chunks would cost 40 bytes for each
            self._body = bytearray(self._body)
        self._body += data

    def on_message_complete(self) -> None:
        request, target = self._request, self._target
        assert request is not None
        assert target is not None
        request.body = bytes(self._body)
        self.in_body = False
        self._body_bytes = 0  # from here on the bytes are the owner's to give back
        self._body = b""
        self._request = self._target = None
        self._done(request, target)


def make_request(peer: Peer, context: object) -> Callable[[str, str, str], Request]:
    """The maker of a connection's requests."""

    def make(method: str, path: str, query: str) -> Request:
        return Request(method, path, query, peer, context)

    return make


def _head_too_large(limits: Limits) -> HeadTooLargeError:
    return HeadTooLargeError(
        "http.head_too_large",
        f"the request line and headers are over {limits.head_bytes} bytes or {limits.headers} fields",
        hint="send less in the head",
    )


def _body_too_large(limit: int) -> TooLarge:
    return TooLarge("http.body_too_large", f"the body is over {limit} bytes", hint="send it in parts", limit=limit)
