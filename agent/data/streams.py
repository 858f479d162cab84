"""Change streams: who watches points gets every new value, or the latest of each point when too slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from agent.data.points import PointState, PointTable
from agent.domain.batch import SampleItem
from agent.domain.grants import matches
from agent.errors import Busy

MAX_WAITING = 1024
MAX_SUBSCRIPTIONS = 256

Update = SampleItem
"""A new value: p, t (epoch ms), v, q, and u (True) when its time was not to be trusted."""


class Subscription:
    """Updates of the points that `filters` cover: an async iterator that ends at `close`.

    At most `max_waiting` updates wait in order; beyond that only the latest of each point is kept (`coalesced` counts
    what that swallowed). `on_ready`, if set, is called synchronously when something waits that did not before.
    """

    def __init__(self, filters: tuple[str, ...], max_waiting: int, forget: Callable[[Subscription], None]) -> None:
        self.filters = filters
        self.coalesced = 0
        self.on_ready: Callable[[], None] | None = None
        self.closed = False
        self._max_waiting = max_waiting
        self._forget = forget
        self._queue: deque[Update] = deque()
        self._overflow: dict[str, Update] = {}
        self._ready = asyncio.Event()

    def covers(self, name: str) -> bool:
        """True when a filter covers the point."""
        return any(matches(each, name) for each in self.filters)

    def offer(self, update: Update) -> None:
        """Called by the ingest for each new value."""
        if not self._overflow and len(self._queue) < self._max_waiting:
            self._queue.append(update)
        else:
            self.coalesced += update.p in self._overflow
            self._overflow[update.p] = update
        if not self._ready.is_set():
            self._ready.set()
            if self.on_ready is not None:
                self.on_ready()

    def drain(self) -> list[Update]:
        """All that waits, oldest first; does not wait itself."""
        updates = [*self._queue, *self._overflow.values()]
        self._queue.clear()
        self._overflow.clear()
        if not self.closed:
            self._ready.clear()
        return updates

    async def batch(self) -> list[Update]:
        """Wait until there is something, then take all of it; empty at the end."""
        await self._ready.wait()
        return self.drain()

    def close(self) -> None:
        """Stop: whoever iterates takes what waits and ends."""
        if not self.closed:
            self.closed = True
            self._forget(self)
            self._ready.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Update:
        while not self._queue and not self._overflow:
            if self.closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        update = self._queue.popleft() if self._queue else self._overflow.pop(next(iter(self._overflow)))
        if not self._queue and not self._overflow and not self.closed:
            self._ready.clear()
        return update


class ChangeStreams:
    """All subscriptions."""

    def __init__(self, table: PointTable) -> None:
        self._table = table
        self._subscriptions: list[Subscription] = []
        table.on_configured.append(self._attach)

    def subscribe(
        self, filters: Iterable[str], *, initial: bool = False, max_waiting: int = MAX_WAITING
    ) -> Subscription:
        """Watch points. `initial`: begin with the latest value of each. Busy: too many watch already."""
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Busy("stream.too_many", f"{MAX_SUBSCRIPTIONS} streams are open", hint="close one", retry_after_s=5)
        subscription = Subscription(tuple(filters), max_waiting, self._forget)
        self._subscriptions.append(subscription)
        for name in sorted(self._table.states):
            state = self._table.states[name]
            if subscription.covers(name):
                state.watchers = (*state.watchers, subscription)
                if initial and state.value is not None:
                    u = state.unsynced or msgspec.UNSET
                    subscription.offer(Update(name, state.t_ms, state.value, state.q, u))
        return subscription

    def __len__(self) -> int:
        return len(self._subscriptions)

    def _attach(self, state: PointState) -> None:
        state.watchers = tuple(each for each in self._subscriptions if each.covers(state.name))

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
        for state in self._table.states.values():
            if subscription in state.watchers:
                state.watchers = tuple(each for each in state.watchers if each is not subscription)
