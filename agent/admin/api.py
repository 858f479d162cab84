"""The admin socket: commands in, replies out, and a stream of points. Whatever the cloud can do can be done here, offline."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.admin.stream import point_stream
from agent.data.streams import ChangeStreams
from agent.domain.command import Command, Origin, Reply
from agent.errors import Malformed, Unauthorised
from agent.http.limits import Limits
from agent.http.messages import Answer, Peer, Request, Response, json_response
from agent.http.router import Router
from agent.http.server import HttpServer

BODY_BYTES = 1_048_576
MAX_ID = 128

Submit = Callable[[Command], Awaitable[Reply]]
"""The inbox. Never raises: what went wrong is in the reply."""
Health = Callable[[], Mapping[str, Any]]
"""Facts for `GET /v1/health`; must be quick."""


class CommandBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/commands`. Without an `id` the command gets one of its own, and cannot be sent twice."""

    type: str
    params: dict[str, Any] = {}
    id: str = ""


class AdminApi:
    """Serves the admin socket for root and for `uid`, the agent's own (a port for tests)."""

    def __init__(self, submit: Submit, streams: ChangeStreams, health: Health, *, uid: int | None = None) -> None:
        self._submit = submit
        self._streams = streams
        self._health = health
        self._allowed = frozenset({0, os.getuid() if uid is None else uid})
        router = Router()
        router.add("POST", "/v1/commands", self._command, max_body=BODY_BYTES)
        router.add("GET", "/v1/points/stream", self._stream)
        router.add("GET", "/v1/health", self._answer_health)
        self._server = HttpServer(router, check=self._check, limits=Limits(body_bytes=BODY_BYTES), name="admin")

    async def start(self, path: Path) -> None:
        """Listen at `path` (0600), in a folder that is there."""
        await self._server.start(path, mode=0o600)

    async def stop(self) -> None:
        """Answer what is under way, then close. The socket's file stays, and is replaced at the next start."""
        await self._server.stop()

    async def _check(self, peer: Peer) -> str:
        """The file's mode keeps others out; this keeps out who got the socket handed over or finds it under a loose mount."""
        if peer.uid not in self._allowed:
            raise Unauthorised(
                "admin.peer",
                f"user {peer.uid} may not administer this gateway",
                hint="run it as root, or as the user of the agent",
            )
        return ""

    async def _command(self, request: Request) -> Answer:
        body = read_command(request.body)
        command = Command(
            id=body.id or uuid.uuid4().hex,
            type=body.type,
            params=body.params,
            origin=Origin.LOCAL,
            ts_ms=time.time_ns() // 1_000_000,
            who=f"uid:{request.peer.uid}",
        )
        reply = await self._submit(command)
        return Response(reply.code, msgspec.json.encode(reply, enc_hook=plain))

    def _stream(self, request: Request) -> Answer:
        return point_stream(self._streams, [value for key, value in request.query if key == "filter"])

    def _answer_health(self, request: Request) -> Answer:
        del request
        return json_response({"ok": True, **self._health()})


def read_command(body: bytes) -> CommandBody:
    """The body as a command. Raises Malformed with the exact field."""
    try:
        found = msgspec.json.decode(body, type=CommandBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec says "... - at `$.params`"
        text = str(error)
        if isinstance(error, RecursionError):
            text = "it is nested too deeply"
        elif isinstance(error, UnicodeDecodeError):
            text = "it is not UTF-8"  # the position would count from the start of a text inside, not of the body
        what, _, where = text.partition(" - at ")
        raise Malformed(
            "command.malformed",
            f"not a command: {what}" + (f" at {where}" if where else ""),
            hint='send {"type": "app.list", "params": {}}; an "id" makes it safe to send again',
            field=where.strip("`").removeprefix("$.") or "body",
        ) from None
    if len(found.id) > MAX_ID or not found.id.isprintable():
        raise Malformed(
            "command.malformed",
            f"id is longer than {MAX_ID} or has control characters",
            hint="a UUID will do",
            field="id",
        )
    return found


def plain(value: Any) -> Any:
    """What msgspec does not know by itself in a reply's data: read-only mappings and odd sequences."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
