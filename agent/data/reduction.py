"""Reduction: of all samples, what goes up.

A numeric point sends window aggregates (`window_s`), changes past its deadband (`deadband`, or a `max_interval_s`
alone), or both; one that declares neither gets the gateway's default window. Booleans and texts send changes. A change
of quality is always sent. What is kept is gathered into batches by priority; a `critical` point's go at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.data.points import PointState, PointTable
from agent.data.timers import Handle, Timers
from agent.domain.batch import AggregateItem, Gathering, Item, SampleItem, encode_items
from agent.domain.priority import Priority
from agent.domain.reduce import Deadband
from agent.domain.sample import PointConfig, Quality, Scalar
from agent.domain.window import Aggregate, Tumbling
from agent.errors import GatewayError
from agent.ports import Clock, OutRecord

TICK_S = 0.25
MAX_HELD = 1_000
UNTRUSTED = frozenset({Quality.BAD, Quality.STALE})


@dataclass(frozen=True, slots=True)
class ReductionSettings:
    """Defaults for points that say nothing, and the size of batches."""

    window_s: float = 60.0
    max_interval_s: float | None = None
    lateness_s: float = 2.0
    batch_items: int = 512
    batch_after_s: float = 1.0


class PointReducer:
    """The open windows and the deadband of one point."""

    __slots__ = ("_band", "_live", "_name", "_priority", "_quality", "_reduction", "_window")

    def __init__(
        self, name: str, priority: Priority, window: Tumbling | None, band: Deadband | None, reduction: Reduction
    ) -> None:
        self._name = name
        self._priority = priority
        self._window = window
        self._band = band
        self._reduction = reduction
        self._quality = Quality.GOOD
        self._live = False

    def take(self, t_ms: int, value: Scalar, quality: Quality, now_s: float, unsynced: bool) -> None:
        """Count one sample; what is kept goes to the reduction's batches."""
        if not self._live:
            self._live = True
            self._reduction.watch(self)
        window = self._window
        if window is not None:
            if quality in UNTRUSTED or isinstance(value, str):
                closed = window.add_bad(t_ms, now_s)
            else:
                closed = window.add(t_ms, value, now_s, unsynced)
            if closed is not None:
                self._send_windows(closed, now_s)
            if self._band is None:
                if quality is not self._quality:
                    self._quality = quality
                    self._send_sample(t_ms, value, quality, unsynced, now_s)
                return
        if self._band is not None:
            for kept in self._band.offer(t_ms, value, quality, now_s):
                self._send_sample(*kept, unsynced, now_s)

    def sweep(self, now_s: float) -> bool:
        """Close what time says is over. False when nothing is open any more."""
        due_s = []
        if self._window is not None:
            self._send_windows(self._window.close_due(now_s), now_s)
            due_s.append(self._window.due_s)
        if self._band is not None:
            for kept in self._band.flush_due(now_s):
                self._send_sample(*kept, False, now_s)
            due_s.append(self._band.due_s)
        self._live = any(each is not None for each in due_s)
        return self._live

    def close(self, now_s: float) -> None:
        """The point goes, or its settings change: send what is open as it is."""
        if self._window is not None:
            self._send_windows(self._window.close_all(), now_s)

    def _send_windows(self, closed: list[Aggregate], now_s: float) -> None:
        unset = msgspec.UNSET
        for each in closed:
            item = AggregateItem(
                self._name, each.t0_ms, each.t1_ms, each.n, each.min, each.max, each.mean, each.first, each.last,
                each.late or unset, each.bad or unset, each.unsynced or unset,
            )  # fmt: skip
            self._reduction.keep(item, self._priority, now_s)

    def _send_sample(self, t_ms: int, value: Scalar, quality: Quality, unsynced: bool, now_s: float) -> None:
        item = SampleItem(self._name, t_ms, value, quality, unsynced or msgspec.UNSET)
        self._reduction.keep(item, self._priority, now_s)


class Reduction:
    """All reducers and the batches they fill. `send` is the outbox's `add_soon`."""

    def __init__(
        self, table: PointTable, send: Callable[[OutRecord], None], clock: Clock, timers: Timers,
        settings: ReductionSettings,
    ) -> None:  # fmt: skip
        self._send = send
        self._clock = clock
        self._timers = timers
        self._settings = settings
        self._live: list[PointReducer] = []
        self._tick: Handle | None = None
        self._held: deque[OutRecord] = deque()
        self._shapes: dict[str, tuple[PointConfig, str]] = {}
        self._table = table
        self.kept_items = self.lost_items = 0
        self._gathering = {
            priority: Gathering(settings.batch_items, settings.batch_after_s)
            for priority in (Priority.NORMAL, Priority.BULK)
        }
        table.on_configured.append(self._prepare)
        table.on_removed.append(self._remove)

    def keep(self, item: Item, priority: Priority, now_s: float) -> None:
        """Put one item into its batch; a critical one goes by itself, at once."""
        self.kept_items += 1
        gathering = self._gathering.get(priority)
        if gathering is None:
            self._hand_over(OutRecord(priority, "data", encode_items([item]), 1))
            return
        if gathering.add(item, now_s):
            self._close_batch(priority)
        if self._tick is None:
            self._arm()

    def watch(self, reducer: PointReducer) -> None:
        """The reducer has something open: sweep it until it has not."""
        self._live.append(reducer)
        self._arm()

    def flush(self) -> None:
        """Hand over the batches as they are."""
        for priority in self._gathering:
            self._close_batch(priority)
        self._retry()

    def close(self) -> None:
        """Send everything, open windows as they are: the agent ends."""
        now_s = self._clock.monotonic()
        for reducer in self._live:
            reducer.close(now_s)
        self.flush()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def status(self) -> dict[str, Any]:
        """Counts as plain JSON. `lost_items` are those the outbox would not take because the disk stood still."""
        waiting = sum(len(each) for each in self._gathering.values())
        return {"kept_items": self.kept_items, "waiting_items": waiting, "lost_items": self.lost_items}

    def tick(self) -> None:
        """Close windows and batches whose time is over."""
        self._tick = None
        now_s = self._clock.monotonic()
        live, self._live = self._live, []
        self._live += [reducer for reducer in live if reducer.sweep(now_s)]
        for priority, gathering in self._gathering.items():
            if gathering.due_s is not None and gathering.due_s <= now_s:
                self._close_batch(priority)
        self._retry()
        if self._live or self._held or any(len(each) for each in self._gathering.values()):
            self._arm()

    def _arm(self) -> None:
        if self._tick is None:
            self._tick = self._timers.call_later(TICK_S, self.tick)

    def _close_batch(self, priority: Priority) -> None:
        items = self._gathering[priority].take()
        if items:
            self._hand_over(OutRecord(priority, "data", encode_items(items), len(items)))

    def _hand_over(self, record: OutRecord) -> None:
        self._held.append(record)
        self._retry()
        while len(self._held) > MAX_HELD:
            self.lost_items += self._held.popleft().count

    def _retry(self) -> None:
        while self._held:
            try:
                self._send(self._held[0])
            except GatewayError:
                return
            self._held.popleft()

    def _prepare(self, state: PointState) -> None:
        shape = (state.config, state.owner)
        if self._shapes.get(state.name) == shape and state.reducer is not None:
            return
        self._remove(state)
        self._shapes[state.name] = shape
        config, settings = state.config, self._settings
        max_interval_s = config.max_interval_s if config.max_interval_s is not None else settings.max_interval_s
        interval_ms = None if max_interval_s is None else int(max_interval_s * 1000)
        if state.kind not in ("float", "int"):
            reducer = PointReducer(config.name, config.priority, None, Deadband(0.0, interval_ms), self)
        else:
            changes = config.deadband > 0 or (config.max_interval_s is not None and config.window_s is None)
            window_s = config.window_s if config.window_s is not None or changes else settings.window_s
            reducer = PointReducer(
                config.name,
                config.priority,
                None if window_s is None else Tumbling(max(int(window_s * 1000), 1), int(settings.lateness_s * 1000)),
                Deadband(config.deadband, interval_ms) if changes else None,
                self,
            )
        state.reducer = reducer

    def _remove(self, state: PointState) -> None:
        self._shapes.pop(state.name, None)
        if isinstance(state.reducer, PointReducer):
            state.reducer.close(self._clock.monotonic())
        state.reducer = None
