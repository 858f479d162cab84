"""A listening socket and its connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import Busy, GatewayError
from agent.http.connection import HttpConnection
from agent.http.limits import Limits
from agent.http.listen import bind_unix
from agent.http.messages import Peer
from agent.http.router import Router

LOG_EVERY_S = 60.0
PeerCheck = Callable[[Peer], Awaitable[str]]
"""Raises a GatewayError (mostly Unauthorised) for a process that has no business here; asked once a connection."""


@dataclass(slots=True)
class Stats:
    """What happened on a socket since it was opened; `streams` are those open now."""

    connections: int = 0
    requests: int = 0
    refused: int = 0
    failed: int = 0
    refused_peers: int = 0
    full: int = 0
    slow: int = 0
    cut: int = 0
    streams: int = 0

    def count(self, status: int) -> None:
        """Count an answer."""
        if status >= 500:
            self.failed += 1
        elif status >= 400:
            self.refused += 1


class HttpServer:
    """Serves `router` on one Unix socket. `context` is handed to every handler as `request.context`."""

    def __init__(
        self,
        router: Router,
        *,
        context: Any = None,
        check: PeerCheck | None = None,
        limits: Limits | None = None,
        name: str = "",
    ) -> None:
        self.router = router
        self.context = context
        self.check = check
        self.limits = limits or Limits()
        self.name = name
        self.stats = Stats()
        self.now = time.monotonic
        self.bodies_bytes = 0
        self.in_flight = 0
        self._said_s: dict[str, float] = {}
        self._connections: set[HttpConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(
        self, path: Path, *, mode: int = 0o600, owner: tuple[int, int] | None = None, staged: Path | None = None
    ) -> None:
        """Listen at `path`, whose folder must be there. Raises Malformed or Failed, see `bind_unix`."""
        self._loop = asyncio.get_running_loop()
        listener = await asyncio.to_thread(bind_unix, path, mode, owner, staged)
        self._server = await self._loop.create_unix_server(lambda: HttpConnection(self), sock=listener)

    async def stop(self, grace_s: float = 1.0) -> None:
        """Accept nothing new, end the streams, give handlers `grace_s`, close. The socket's file stays."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._connections):
            connection.end_quietly()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_s)
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._connections):
            connection.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        await asyncio.sleep(0)  # lets the transports report the loss

    def end_streams(self) -> None:
        """End all event streams; their readers come back and are checked anew."""
        for connection in list(self._connections):
            connection.end_stream()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    # -- for the connections ------------------------------------------------------------------------------------

    def enter(self, connection: HttpConnection) -> GatewayError | None:
        """A new connection; why it may not stay, or None."""
        self.stats.connections += 1
        full = len(self._connections) >= self.limits.connections
        self._connections.add(connection)
        if self._sweep_timer is None:
            self._arm()
        if not full:
            return None
        self.stats.full += 1
        if len(self._connections) > 2 * self.limits.connections:
            connection.close()
        return Busy(
            "http.connections_full",
            f"{self.limits.connections} connections are open on this socket",
            hint="close some, or keep one and reuse it",
        )

    def leave(self, connection: HttpConnection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)

    def may_log(self, event: str) -> bool:
        """True at most once a minute an event: what a client can repeat must not fill the log. Counters say the rest."""
        now_s = self.now()
        if now_s - self._said_s.get(event, float("-inf")) < LOG_EVERY_S:
            return False
        self._said_s[event] = now_s
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that `stop` waits for."""
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _arm(self) -> None:
        # One timer a socket, and none without connections: re-arming a timer for each request would cost more than
        # answering it.
        assert self._loop is not None
        limits = self.limits
        tick_s = min(1.0, *(s / 2 for s in (limits.head_s, limits.body_s, limits.linger_s, limits.idle_s)))
        self._sweep_timer = self._loop.call_later(tick_s, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        now = self.now()
        for connection in list(self._connections):
            if now >= connection.deadline:
                connection.expire()
        if self._connections:
            self._arm()
