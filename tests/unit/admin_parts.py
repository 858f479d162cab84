"""The real admin API on a real Unix socket, in a thread of its own, before an inbox that answers from a table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.admin.api import AdminApi
from agent.data.points import PointTable
from agent.data.streams import ChangeStreams
from agent.domain.command import Command, Reply
from agent.domain.sample import DeviceConfig, PointConfig

Handler = Callable[[Command], Reply]


class Desk:
    """Stands for the inbox: `replies` says what each type is answered with; `seen` keeps what came."""

    def __init__(self) -> None:
        self.seen: list[Command] = []
        self.replies: dict[str, Any] = {}

    def on(self, command_type: str, answer: Any) -> None:
        """Answer with `answer`: a Reply, a function of the command, or the data of a 200."""
        self.replies[command_type] = answer

    def sent(self, command_type: str) -> dict[str, Any]:
        """The parameters of the only command of that type."""
        (found,) = [command for command in self.seen if command.type == command_type]
        return dict(found.params)

    async def submit(self, command: Command) -> Reply:
        """As `Inbox.submit`."""
        self.seen.append(command)
        answer = self.replies.get(command.type)
        if callable(answer):
            answer = answer(command)
        if isinstance(answer, Reply):
            return Reply(command.id, answer.code, answer.msg, answer.job, answer.data)
        return Reply(command.id, 200, data=answer)


class Office:
    """A running admin socket. `publish` puts a value into the point table from outside the loop's thread."""

    def __init__(self, socket: Path, desk: Desk) -> None:
        self.socket = socket
        self.desk = desk
        self.table = PointTable()
        self.streams = ChangeStreams(self.table)
        self._loop = asyncio.new_event_loop()
        self._api: AdminApi | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self, uid: int | None = None) -> None:
        """Listen."""
        self._thread.start()
        self._run(self._start(uid))

    def stop(self) -> None:
        """Close everything. Does nothing the second time."""
        if self._api is None or self._loop.is_closed():
            return
        self._run(self._api.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def publish(self, point: str, value: float) -> None:
        """A new value of a point, as the ingest would set it."""

        async def put() -> None:
            config = PointConfig(point, owner="modbus")
            known = [DeviceConfig("d", "modbus", points=(config,))] if point not in self.table.states else None
            if known is not None:
                self.table.configure(known, ())
            state = self.table.states[point]
            state.value, state.t_ms = value, state.t_ms + 1000
            for watcher in state.watchers:
                watcher.offer(state)

        self._run(put())

    async def _start(self, uid: int | None) -> None:
        self._api = AdminApi(self.desk.submit, self.streams, lambda: {"version": "0.1.0"}, uid=uid)
        await self._api.start(self.socket)

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@contextmanager
def office(folder: Path, desk: Desk | None = None) -> Iterator[Office]:
    """An admin socket in `folder`."""
    running = Office(folder / "admin.sock", desk or Desk())
    running.start()
    try:
        yield running
    finally:
        running.stop()
