"""Writes to outputs: checked here, handed to the APP that owns the point, answered by it.

A write reaches the owner on its command stream in the same turn of the loop. It is never queued for an APP that is
not listening and never replayed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from agent.data.commands import AppCommand, CommandStream
from agent.data.points import PointState, PointTable, fits
from agent.domain.sample import Scalar
from agent.errors import Conflict, GatewayError, Malformed, NotFound, Refused, TimedOut, Unreachable
from agent.ports import Clock

ANSWER_TIMEOUT_S = 5.0
SELECT_S = 30.0
MAX_PENDING = 10_000
MODES = ("direct", "select", "operate", "cancel")


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """What became of a write. `ok` False: the APP says it failed, `message` says why."""

    id: str
    point: str
    ok: bool
    message: str
    took_ms: float


@dataclass(slots=True)
class _Pending:
    command: AppCommand
    instance: str
    future: asyncio.Future[tuple[bool, str]] | None
    on_failed: Callable[[str], None] | None = None
    on_done: Callable[[], None] | None = None


@dataclass(slots=True)
class _Selection:
    who: str
    value: Scalar
    until_s: float


@dataclass(slots=True)
class WriteCounts:
    """Writes so far."""

    posted: int = 0
    written: int = 0
    failed: int = 0
    late: int = 0
    unanswered: int = 0


class WriteHub:
    """All writes. `answer_timeout_s` is how long an APP may take.

    `waits` tells of an instance and one of its containers whether the commands are meant for another version of it now:
    a listener in there is handed none until that is over (`review`).
    """

    def __init__(self, table: PointTable, clock: Clock, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.counts = WriteCounts()
        self.on_attached: list[Callable[[str], None]] = []
        self.waits: Callable[[str, str], bool] = lambda *_: False
        self._table = table
        self._clock = clock
        self._answer_timeout_s = answer_timeout_s
        self._streams: dict[str, CommandStream] = {}
        self._waiting: dict[str, CommandStream] = {}
        self._pending: dict[str, _Pending] = {}
        self._selected: dict[str, _Selection] = {}
        self._ids = itertools.count(1)
        self._epoch = f"{clock.now_ms():x}"

    def attach(self, instance: str, caller: str = "") -> CommandStream:
        """The commands for an instance from now on. A second stream of the same instance ends the first one.

        `caller` is the listener's container. One that `waits` ends only another that does.
        """
        stream = CommandStream(instance, self._clock, caller)
        if self.waits(instance, caller):
            old, self._waiting[instance] = self._waiting.get(instance), stream
            if old is not None:
                old.end()
        else:
            self._hand_over(stream)
        return stream

    def review(self, instance: str) -> None:
        """The instance may have another version that the commands are meant for: who waited for that is handed them."""
        stream = self._waiting.get(instance)
        if stream is not None and not self.waits(instance, stream.caller):
            del self._waiting[instance]
            self._hand_over(stream)

    def _hand_over(self, stream: CommandStream) -> None:
        old, self._streams[stream.instance] = self._streams.get(stream.instance), stream
        if old is not None:
            old.end()
        for tell in self.on_attached:
            tell(stream.instance)

    def detach(self, stream: CommandStream) -> None:
        """The listener has gone: what it was handed and did not answer fails now."""
        stream.end()
        if self._waiting.get(stream.instance) is stream:
            del self._waiting[stream.instance]
        if self._streams.get(stream.instance) is stream:
            del self._streams[stream.instance]
            for id_ in [id_ for id_, each in self._pending.items() if each.instance == stream.instance]:
                self._settle(id_, ok=False, message="the APP went away before it answered")

    def listening(self, instance: str) -> bool:
        """True while the instance takes commands."""
        return instance in self._streams

    async def write(self, point: str, value: Scalar, *, mode: str = "direct", origin: str, who: str) -> WriteAnswer:
        """Write and wait for the owner's answer.

        NotFound: no such point. Refused: not an output, outside its limits, or a remote write while the clock is not
        sane. Malformed: wrong type. Conflict: selected by somebody else. Unreachable: the owner is not listening.
        TimedOut: no answer in time; the output may or may not have changed.
        """
        if mode not in MODES:
            raise Malformed("write.mode", f"'{mode}' is not a mode of writing", hint="one of " + ", ".join(MODES))
        if origin == "cloud" and mode != "cancel" and not self._clock.sane():
            raise Refused("write.clock", "a remote write needs a clock that is right", hint="see `ecgw gateway time`")
        started_s = self._clock.monotonic()
        if mode != "direct":
            done = self._two_step(point, value, mode, who)
            if done is not None:
                return WriteAnswer("", point, True, done, 0.0)
        elif (held := self._selection(point)) is not None and held.who != who:
            raise Conflict("write.selected", f"'{point}' is selected by {held.who}", hint="wait, or let them cancel")
        future: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        command = self._dispatch(point, value, origin, who, started_s, None, future, None)
        try:
            ok, message = await asyncio.wait_for(future, self._answer_timeout_s)
        except TimeoutError:
            self._pending.pop(command.id, None)
            self.counts.late += 1
            raise TimedOut(
                "write.no_answer", f"the owner of '{point}' did not answer within {self._answer_timeout_s:g} s",
                hint="the output may have changed: read it back; look at the APP's log",
            ) from None  # fmt: skip
        took_ms = (self._clock.monotonic() - started_s) * 1000
        return WriteAnswer(command.id, point, ok, message, round(took_ms, 3))

    def post(
        self, point: str, value: Scalar, who: str, *, started_s: float,
        delivered: Callable[[float], None] | None = None, on_failed: Callable[[str], None] | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> str:  # fmt: skip
        """Write and do not wait (a rule). Raises like `write`; what the APP answers later goes to `on_failed` or `on_done`.

        `started_s` is the monotonic time of the sample that caused it; `delivered` gets the seconds until the owner
        was handed the command.
        """
        self.counts.posted += 1
        return self._dispatch(point, value, "rule", who, started_s, delivered, None, on_failed, on_done).id

    def answer(self, instance: str, command_id: str, ok: bool, message: str = "") -> None:
        """The APP's word on a command. NotFound: not waiting for that one (unknown, somebody else's or too late)."""
        pending = self._pending.get(command_id)
        if pending is None or pending.instance != instance:
            raise NotFound(
                "command.unknown", f"no command '{command_id[:64]}' waits for an answer of '{instance}'",
                hint="answer each command once, within its time",
            )  # fmt: skip
        self._settle(command_id, ok=ok, message=message[:500])

    def _dispatch(
        self, point: str, value: Scalar, origin: str, who: str, started_s: float,
        delivered: Callable[[float], None] | None, future: asyncio.Future[tuple[bool, str]] | None,
        on_failed: Callable[[str], None] | None, on_done: Callable[[], None] | None = None,
    ) -> AppCommand:  # fmt: skip
        state, value = self.check(point, value)
        if state.owner not in self._streams:
            self.review(state.owner)
        stream = self._streams.get(state.owner)
        if stream is None:
            self.counts.failed += 1
            raise Unreachable(
                "write.no_driver", f"nobody listens who could write '{point}'",
                hint=f"is the APP '{state.owner}' running?" if state.owner else "the point has no owner",
            )  # fmt: skip
        command = AppCommand(
            id=f"{self._epoch}-{next(self._ids)}", point=point, value=value, t_ms=self._clock.now_ms(), origin=origin,
            who=who, device=state.config.device, address=state.config.address, safe=state.config.safe,
            started_s=started_s, delivered=delivered,
        )  # fmt: skip
        if len(self._pending) >= MAX_PENDING:
            self._settle(next(iter(self._pending)), ok=False, message="too many writes wait for an answer")
            self.counts.unanswered += 1
        self._pending[command.id] = _Pending(command, state.owner, future, on_failed, on_done)
        try:
            stream.put(command)
        except GatewayError:
            del self._pending[command.id]
            self.counts.failed += 1
            raise
        return command

    def check(self, point: str, value: Scalar) -> tuple[PointState, Scalar]:
        """The point and `value` as its type, when that may be written; raises as `write` says."""
        state = self._table.states.get(point)
        if state is None:
            raise NotFound("point.unknown", f"there is no point '{point[:200]}'", hint="see `ecgw point list`")
        config = state.config
        if not config.writable:
            raise Refused("point.read_only", f"'{point}' is not an output", hint="give it `write:` in its device file")
        value = _shaped(state.kind, value)
        if not fits(state.kind, value) or (isinstance(value, float) and not -1e300 <= value <= 1e300):
            raise Malformed("point.type", f"{value!r} is not a {state.kind}, which '{point}' needs", field="value")
        low, high = config.limits.min, config.limits.max
        if not isinstance(value, str) and ((low is not None and value < low) or (high is not None and value > high)):
            raise Refused(
                "point.limits", f"{value!r} is outside the write limits of '{point}' ({low} to {high})",
                hint=f"the limits stand in {config.source or 'its device file'}", min=low, max=high,
            )  # fmt: skip
        return state, value

    def _two_step(self, point: str, value: Scalar, mode: str, who: str) -> str | None:
        """Select or cancel and say so; None when an `operate` may go on."""
        held = self._selection(point)
        if held is not None and held.who != who:
            raise Conflict("write.selected", f"'{point}' is selected by {held.who}", hint="wait, or let them cancel")
        if mode == "select":
            self.check(point, value)
            self._selected[point] = _Selection(who, value, self._clock.monotonic() + SELECT_S)
            return f"selected for {SELECT_S:g} s"
        self._selected.pop(point, None)
        if mode == "cancel":
            return "cancelled"
        if held is None or held.value != value:
            raise Conflict("write.not_selected", f"'{point}' was not selected with this value", hint="select it first")
        return None

    def _selection(self, point: str) -> _Selection | None:
        held = self._selected.get(point)
        if held is not None and held.until_s <= self._clock.monotonic():
            del self._selected[point]
            return None
        return held

    def _settle(self, command_id: str, *, ok: bool, message: str) -> None:
        pending = self._pending.pop(command_id)
        self.counts.written += ok
        self.counts.failed += not ok
        if pending.future is not None and not pending.future.done():
            pending.future.set_result((ok, message or ("done" if ok else "failed")))
        if ok and pending.on_done is not None:
            pending.on_done()
        if not ok and pending.on_failed is not None:
            pending.on_failed(message or "the APP says it failed")


def _shaped(kind: str, value: Scalar) -> Scalar:
    """People write 1 for true and 5.0 for 5: the same value in the point's own type, where it loses nothing."""
    if kind == "bool" and type(value) is int and value in (0, 1):
        return bool(value)
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
