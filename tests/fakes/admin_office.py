"""The real admin API on a real Unix socket, in a thread of its own, before an inbox that answers from a table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.admin.api import AdminApi
from agent.data.plane import DataPlane, make_plane
from agent.data.streams import ChangeStreams
from agent.domain.command import Command, Reply
from agent.domain.sample import Sample
from agent.host.clock import SystemClock
from tests.fakes.outbox import FakeAlarmStore, FakeOutboxStore

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
        self._loop = asyncio.new_event_loop()
        self._plane: DataPlane | None = None
        self._api: AdminApi | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def streams(self) -> ChangeStreams:
        """The data plane's own."""
        assert self._plane is not None
        return self._plane.streams

    def start(self, uid: int | None = None) -> None:
        """Listen."""
        self._thread.start()
        self._run(self._start(uid))

    def stop(self) -> None:
        """Close everything. Does nothing the second time."""
        if self._api is None or self._loop.is_closed():
            return
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def publish(self, point: str, value: float) -> None:
        """A new value of a point that the APP modbus owns."""
        self._run(self._publish(Sample(point, value)))

    async def _publish(self, sample: Sample) -> None:
        assert self._plane is not None
        self._plane.ingest.accept("modbus", [sample])

    async def _start(self, uid: int | None) -> None:
        self._plane = make_plane(FakeOutboxStore(), FakeAlarmStore(), SystemClock(0))
        await self._plane.start()
        self._plane.table.set_publishers({"modbus": ["#"]})
        self._api = AdminApi(self.desk.submit, self._plane.streams, lambda: {"version": "0.1.0"}, uid=uid)
        await self._api.start(self.socket)

    async def _stop(self) -> None:
        assert self._api is not None
        assert self._plane is not None
        await self._api.stop()
        await self._plane.close()

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
