"""Store and forward: everything for the cloud that must not be lost goes through here, and only this publishes it.

Records gather in memory for as long as the last commit takes, then go to disk together. The pump sends what is on
disk, critical first, and has it forgotten only after the broker's acknowledgement.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from agent.data.background import Background
from agent.data.pump import Pump, Shorten
from agent.data.rate import Rate
from agent.domain.priority import Priority
from agent.errors import Busy, GatewayError, NoSpace, TooLarge
from agent.ports import Clock, CloudLink, Dialect, OutboxStore, OutRecord, Stored

log = logging.getLogger(__name__)

MAX_WAITING_RECORDS = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_RECORD_BYTES = 1024 * 1024
RETRY_S = 1.0
CLOSE_TIMEOUT_S = 5.0
# Under load, commits keep this distance: the next one takes more along, and flash and processor have less to do.
GATHER_S = 0.01
RATE_TAU_S = 600.0

_Waiting = tuple[OutRecord, "asyncio.Future[None] | None"]


class Outbox:
    """Records in, messages out. `in_flight` is how many may be on their way to the broker at once."""

    def __init__(self, store: OutboxStore, clock: Clock, *, in_flight: int = 20) -> None:
        self._store = store
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._writer = Background(self._write, "outbox")
        self._pump = Pump(store, clock, in_flight)
        self._in_rate = Rate(clock, RATE_TAU_S)
        self._blocked = ""

    async def add(self, record: OutRecord) -> None:
        """Take one record; returns after the commit that holds it.

        Busy: too much waits in memory. NoSpace: critical, and the outbox holds nothing that may be dropped for it.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._take(record, future)
        await future

    def add_soon(self, record: OutRecord) -> None:
        """Take one record without waiting; it is on disk within about one commit. Busy: too much waits in memory."""
        self._take(record, None)

    async def flushed(self) -> None:
        """Wait until what was added so far is on disk. NoSpace or Failed: it is not, and is still being tried."""
        if self._waiting or self._writer.running:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((_NOTHING, future))
            self._writer.kick()
            await future

    async def pump(self, link: CloudLink, dialect: Dialect, shorten: Shorten | None = None) -> None:
        """Send for ever. Run it as one task. `shorten` is asked for less where the broker finds a record too large."""
        await self._pump.run(link, dialect, shorten)

    def on_sent(self, listener: Callable[[Stored], None]) -> None:
        """Have `listener` told of every record that the broker has acknowledged."""
        self._pump.on_sent.append(listener)

    async def close(self) -> None:
        """Put what waits on disk, then stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._writer.idle(), CLOSE_TIMEOUT_S)
        await self._writer.close()

    async def status(self) -> dict[str, Any]:
        """What is held and where it stands, as plain JSON.

        `hours_left`: until the cap (or the disk) is full at the rate of the last ten minutes, None while nothing
        comes in. `drain_s`: until all held is sent at the rate of sending now, None while the link is down.
        """
        depth: Mapping[str, Any] = await self._store.depth()
        pump = self._pump
        rate = self._in_rate.per_s()
        room = max(min(depth["cap_bytes"] - depth["bytes"], depth["disk_free_bytes"]), 0)
        out_rate = pump.out_rate.per_s()
        oldest_ms = depth["oldest_ms"]
        body = {key: value for key, value in depth.items() if key != "oldest_ms"}
        return {
            **body,
            "connected": pump.connected,
            "live": pump.live,
            "blocked": self._blocked,
            "in_flight": pump.flying,
            "published": pump.published,
            "refused": pump.refused,
            "waiting_in_memory": len(self._waiting),
            "oldest_age_s": None if oldest_ms is None else round(max(self._clock.now_ms() - oldest_ms, 0) / 1000, 1),
            "rate_bytes_per_s": round(rate, 2),
            "hours_left": round(room / rate / 3600, 2) if rate > 0 else None,
            "drain_s": round(depth["bytes"] / out_rate, 1) if pump.connected and out_rate > 0 else None,
        }

    def _take(self, record: OutRecord, future: asyncio.Future[None] | None) -> None:
        size = len(record.payload)
        if size > MAX_RECORD_BYTES:
            raise TooLarge("outbox.record_size", f"one record of {size} bytes", hint=f"at most {MAX_RECORD_BYTES}")
        full = len(self._waiting) >= MAX_WAITING_RECORDS or self._waiting_bytes + size > MAX_WAITING_BYTES
        if full:
            raise Busy(
                "outbox.busy", f"{len(self._waiting)} records wait for the disk" + self._blocked,
                hint="the disk is full or too slow; see `ecgw uplink`", retry_after_s=1,
            )  # fmt: skip
        self._waiting.append((record, future))
        self._waiting_bytes += size
        self._writer.kick()

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            self._waiting_bytes = 0
            try:
                await self._append([record for record, _ in group if record is not _NOTHING])
            except NoSpace as error:
                await self._write_singly(group, error)
            except GatewayError as error:
                await self._put_back(group, error)
            else:
                self._blocked = ""
                _settle(group, None)
                if self._waiting:
                    await asyncio.sleep(GATHER_S)

    async def _append(self, records: list[OutRecord]) -> None:
        if records:
            stream = "live" if self._pump.live else "hist"
            self._in_rate.add(await self._store.append(records, stream, self._clock.now_ms()))
            self._pump.added(len(records), urgent=any(r.priority is Priority.CRITICAL for r in records))

    async def _write_singly(self, group: list[_Waiting], error: GatewayError) -> None:
        """No room for all: write those that still fit. When the disk itself is full, none does: keep and retry."""
        if error.code != "outbox.full":
            await self._put_back(group, error)
            return
        kept: list[_Waiting] = []
        for index, (record, future) in enumerate(group):
            try:
                await self._append([] if record is _NOTHING else [record])
                _settle([(record, future)], None)
            except NoSpace as refused:
                if refused.code != "outbox.full":
                    await self._put_back([*kept, *group[index:]], refused)
                    return
                if future is None:
                    kept.append((record, None))  # nobody else knows of it
                else:
                    _settle([(record, future)], refused)
        if kept:
            await self._put_back(kept, error)

    async def _put_back(self, group: list[_Waiting], error: GatewayError) -> None:
        """The disk failed: whoever waits learns it, and what nobody waits for is kept and tried again."""
        self._block(error)
        kept = [(record, None) for record, future in group if future is None]
        _settle([each for each in group if each[1] is not None], error)
        self._waiting = [*kept, *self._waiting]
        self._waiting_bytes = sum(len(record.payload) for record, _ in self._waiting)
        await asyncio.sleep(RETRY_S)

    def _block(self, error: GatewayError) -> None:
        if not self._blocked:
            log.error("outbox_blocked code=%s error=%s", error.code, error)
        self._blocked = str(error)


_NOTHING = OutRecord(Priority.BULK, "", b"")


def _settle(group: list[_Waiting], error: GatewayError | None) -> None:
    for _, future in group:
        if future is None or future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
