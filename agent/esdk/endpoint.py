"""One row of the interface: what the router, the checks and the documentation all read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec

from agent.errors import Busy, GatewayError, Malformed
from agent.esdk.session import Session, not_granted
from agent.http.messages import Answer, Handler, Request, Stream


class Call:
    """A request after the checks: `body` and `query` are the endpoint's own types, `caller` is the caller's container."""

    __slots__ = ("body", "caller", "params", "query", "session")

    def __init__(self, session: Session, body: Any, query: Any, params: Mapping[str, str], caller: str = "") -> None:
        self.session = session
        self.body = body
        self.query = query
        self.params = params
        self.caller = caller


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`permission` names a yes-or-no grant that is checked here; one by filter is checked by the handler and only
    described in `needs`. `answer` is the body of `status`; `events` are a stream's, by name."""

    method: str
    path: str
    summary: str
    handler: Callable[[Call], Answer | Awaitable[Answer]]
    permission: str = ""
    needs: str = ""
    body: Any = None
    query: type[msgspec.Struct] | None = None
    answer: Any = None
    status: int = 200
    events: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    max_body: int = 65_536

    @property
    def category(self) -> str:
        """``points`` of ``/v1/points/latest``."""
        return self.path.split("/")[2]


def bind(endpoint: Endpoint) -> Handler:
    """The endpoint as a handler: quota, grant, query, body, in this order."""
    decode = msgspec.json.Decoder(endpoint.body).decode if endpoint.body is not None else None
    read_query = _query_reader(endpoint.query)
    run, permission = endpoint.handler, endpoint.permission

    def handle(request: Request) -> Answer | Awaitable[Answer]:
        session: Session = request.context
        try:
            session.meter.requests.take()
            session.meter.used["requests"] += 1
            if permission and not getattr(session.view.grants, permission):
                raise not_granted(permission, f"use {endpoint.path}")
            query = read_query(request) if request.query_text or endpoint.query is not None else None
            body = decode_body(decode, request.body) if decode is not None else None
            return run(Call(session, body, query, request.params, request.peer.name))
        except Busy:
            session.meter.used["refused"] += 1
            raise

    def handle_stream(request: Request) -> Answer | Awaitable[Answer]:
        session: Session = request.context
        session.meter.open_stream()
        try:
            stream = handle(request)
        except GatewayError:
            session.meter.close_stream()
            raise
        assert isinstance(stream, Stream)

        def closed() -> None:
            session.meter.close_stream()
            stream.on_close()

        return Stream(stream.feed, closed, stream.beat_s)

    return handle_stream if endpoint.events else handle


def decode_body(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """The body as its type. Raises Malformed with `field` where the wrong place can be named."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        text, place = _split_place(str(error))
        raise Malformed(
            "esdk.malformed", f"the body is not right: {text}", hint="see /v1/openapi.json", field=place
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed("esdk.malformed", f"the body is not JSON: {error}", hint="send one JSON value") from None
    except RecursionError:
        raise Malformed("esdk.malformed", "the body is nested too deeply", hint="send it flatter") from None


def _split_place(text: str) -> tuple[str, str]:
    """``Expected `int`, got `str` - at `$[3].v` `` as the text and ``[3].v``."""
    what, _, where = text.partition(" - at `$")
    return (what, where.rstrip("`").lstrip(".")) if where else (text, "")


def _query_reader(kind: type[msgspec.Struct] | None) -> Callable[[Request], Any]:
    if kind is None:
        return _no_query
    hints = get_type_hints(kind)
    lists = {name for name, hint in hints.items() if getattr(hint, "__origin__", None) in (list, tuple)}

    def read(request: Request) -> Any:
        found: dict[str, Any] = {}
        for name, value in request.query:
            if name in lists:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise _bad_query(f"'{name[:64]}' is there twice", name)
            else:
                found[name] = value
        try:
            return msgspec.convert(found, kind, strict=False)
        except msgspec.ValidationError as error:
            text, place = _split_place(str(error))
            raise _bad_query(text, place) from None

    return read


def _no_query(request: Request) -> None:
    for name, _ in request.query:
        raise _bad_query("this path takes no query", name)


def _bad_query(text: str, place: str) -> Malformed:
    return Malformed("esdk.bad_query", f"the query is not right: {text}", hint="see /v1/openapi.json", field=place[:64])
