"""The pump: takes records from disk to the broker, a bounded number at a time, critical ones first."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from agent.data.background import Background
from agent.data.rate import Rate
from agent.errors import GatewayError, TooLarge
from agent.ports import Clock, CloudLink, Dialect, OutboxStore, Stored

log = logging.getLogger(__name__)

FETCH = 64
BACKLOG = 256
BACKOFF_S = (0.5, 30.0)
LINK_POLL_S = 0.25
IDLE_POLL_S = 1.0
OUT_TAU_S = 30.0

Shorten = Callable[[Stored], bytes | None]
"""What goes in the place of a record that the broker finds too large; None: nothing is of use in its place."""


class Pump:
    """Sends what the store holds. `live` is True while the link is up and the store does not lag behind."""

    def __init__(self, store: OutboxStore, clock: Clock, in_flight: int) -> None:
        self.published = 0
        self.refused = 0
        self.out_rate = Rate(clock, OUT_TAU_S)
        self.on_sent: list[Callable[[Stored], None]] = []
        self._store = store
        self._in_flight = in_flight
        self._link: CloudLink | None = None
        self._shorten: Shorten = _nothing
        self._caught_up = False
        self._lag = 0
        self._next: deque[Stored] = deque()
        self._flying: dict[asyncio.Task[None], Stored] = {}
        self._acknowledged: list[int] = []
        self._out: set[int] = set()
        self._forgetter = Background(self._forget, "outbox.forget")
        self._news = asyncio.Event()
        self._backoff_s = BACKOFF_S[0]

    @property
    def connected(self) -> bool:
        """True while the pump runs and has a link."""
        return self._link is not None and self._link.connected

    @property
    def live(self) -> bool:
        """True: what is added now is live data. False: it is history, because it has to wait."""
        return self.connected and self._caught_up and self._lag <= BACKLOG

    @property
    def flying(self) -> int:
        """Messages on their way."""
        return len(self._flying)

    def added(self, count: int, *, urgent: bool) -> None:
        """`count` more records are on disk. `urgent`: critical ones among them overtake what was fetched."""
        self._lag += count
        if not self.connected:
            self._caught_up = False
        if urgent:
            self._next.clear()
        self._news.set()

    async def run(self, link: CloudLink, dialect: Dialect, shorten: Shorten | None = None) -> None:
        """For ever: wait for the link, send, and when it breaks send again from the oldest unacknowledged."""
        self._link, self._shorten = link, shorten or _nothing
        try:
            while True:
                if not link.connected:
                    self._caught_up = False
                    await asyncio.sleep(LINK_POLL_S)
                    continue
                try:
                    await self._send(link, dialect)
                except GatewayError as error:
                    log.warning("outbox_send code=%s error=%s", error.code, error)
                    await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))
                    self._backoff_s = min(self._backoff_s * 2, BACKOFF_S[1])
        finally:
            self._link = None
            await self._land()
            await self._forgetter.close()

    async def _send(self, link: CloudLink, dialect: Dialect) -> None:
        """Send until the link breaks; raises what broke it."""
        while link.connected:
            self._news.clear()
            if not self._next and len(self._flying) < self._in_flight:
                await self._fetch()
            while self._next and len(self._flying) < self._in_flight:
                self._launch(self._next.popleft(), link, dialect)
            if self._flying:
                await self._wait()
            elif self._out:
                await self._forgetter.idle()
            else:
                await self._rest(link)
        await self._land()

    async def _fetch(self) -> None:
        stored = await self._store.head(FETCH + len(self._out))
        self._next.extend(each for each in stored if each.row not in self._out)
        if not self._next:
            self._caught_up = True
            self._lag = len(self._out)

    async def _rest(self, link: CloudLink) -> None:
        """Until there is something to send, or the link is gone."""
        while link.connected and not self._news.is_set():
            with suppress(TimeoutError):
                # Not wait_for: woken and cancelled in one turn of the loop, it forgets that it was cancelled.
                async with asyncio.timeout(IDLE_POLL_S):
                    await self._news.wait()

    def _launch(self, stored: Stored, link: CloudLink, dialect: Dialect) -> None:
        self._out.add(stored.row)
        try:
            message = dialect.encode(stored)
        except GatewayError as error:
            self._refuse(stored, error)
            return
        publish = link.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
        self._flying[asyncio.ensure_future(publish)] = stored

    async def _wait(self) -> None:
        """Until something landed, or more may be launched."""
        waits: set[asyncio.Future[object]] = set(self._flying)  # type: ignore[arg-type]
        news = asyncio.ensure_future(self._news.wait())
        if len(self._flying) < self._in_flight:
            waits.add(news)  # type: ignore[arg-type]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        self._collect()

    def _collect(self) -> None:
        broken: GatewayError | None = None
        for task in [task for task in self._flying if task.done()]:
            stored = self._flying.pop(task)
            error = None if task.cancelled() else task.exception()
            if task.cancelled() or (isinstance(error, GatewayError) and error.retryable):
                self._out.discard(stored.row)
                broken = error if isinstance(error, GatewayError) else broken
            elif isinstance(error, GatewayError):
                self._refuse(stored, error)
            elif error is not None:
                self._out.discard(stored.row)
                raise error
            else:
                self._backoff_s = BACKOFF_S[0]
                self._sent(stored)
        if broken is not None:
            self._next.clear()
            raise broken

    def _refuse(self, stored: Stored, error: GatewayError) -> None:
        """The message itself is impossible: trying it again would stop everything behind it. Less may go in its place.

        On disk it stays as it is until that is acknowledged: an agent that is killed meanwhile begins again with the whole.
        """
        less = self._shorten(stored) if isinstance(error, TooLarge) else None
        if less is not None and len(less) < len(stored.payload):
            log.warning("outbox_shortened kind=%s seq=%s error=%s", stored.kind, stored.seq, error)
            self._out.discard(stored.row)
            self._next.appendleft(replace(stored, payload=less))
            return
        self.refused += 1
        log.error("outbox_refused kind=%s seq=%s code=%s error=%s", stored.kind, stored.seq, error.code, error)
        self._done(stored)

    def _sent(self, stored: Stored) -> None:
        """The broker has it."""
        self.published += 1
        self.out_rate.add(len(stored.payload))
        for listener in self.on_sent:
            listener(stored)
        self._done(stored)

    def _done(self, stored: Stored) -> None:
        self._acknowledged.append(stored.row)
        self._lag = max(self._lag - 1, 0)
        self._forgetter.kick()

    async def _forget(self) -> None:
        """Delete what is acknowledged, all that gathered while the last commit ran together."""
        while self._acknowledged:
            rows, self._acknowledged = self._acknowledged, []
            try:
                await self._store.forget(rows)
            except GatewayError as error:
                # They stay in `_out`, so they are not sent twice by this run; the disk must heal first.
                self._acknowledged = [*rows, *self._acknowledged]
                log.warning("outbox_forget code=%s error=%s", error.code, error)
                await asyncio.sleep(1.0)
            else:
                self._out.difference_update(rows)

    async def _land(self) -> None:
        """The link is gone: what flies is unknown, and is sent again under the same key."""
        for task in self._flying:
            task.cancel()
        if self._flying:
            await asyncio.wait(self._flying)
        for task, stored in self._flying.items():
            if not task.cancelled() and task.exception() is None:
                self._sent(stored)
            else:
                self._out.discard(stored.row)
        self._flying.clear()
        self._next.clear()


def _nothing(stored: Stored) -> None:
    del stored
