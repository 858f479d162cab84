"""The data plane put together: what the daemon makes one of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from agent.data.alarms import AlarmBook, AlarmStore
from agent.data.devices import DeviceTable
from agent.data.ingest import Ingest
from agent.data.outbox import Outbox
from agent.data.points import PointTable
from agent.data.reduction import Reduction, ReductionSettings
from agent.data.rules import RuleEngine, compile_rules
from agent.data.streams import ChangeStreams
from agent.data.timers import LoopTimers, Timers
from agent.data.writes import WriteHub
from agent.domain.override import PointOverride
from agent.domain.rule import RuleConfig
from agent.domain.sample import DeviceConfig
from agent.ports import Clock, OutboxStore

CLOSE_TIMEOUT_S = 5.0


class DataPlane:
    """Points, rules, reduction and the outbox, wired. The stores are opened and closed by whoever made them.

    A task must run ``outbox.pump(link, dialect)``; without it everything is stored and nothing is sent.
    """

    def __init__(
        self, outbox: Outbox, alarm_store: AlarmStore, clock: Clock, reduction: ReductionSettings,
        *, floor_ms: int = 0, timers: Timers | None = None,
    ) -> None:  # fmt: skip
        timers = timers or LoopTimers()
        self.outbox = outbox
        self.table = PointTable()
        self.writes = WriteHub(self.table, clock)
        self.alarms = AlarmBook(alarm_store, outbox, clock, timers)
        self.devices = DeviceTable(self.alarms, outbox.add_soon, clock)
        self.rules = RuleEngine(self.table, self.writes, self.alarms, outbox.add_soon, clock, timers)
        self.streams = ChangeStreams(self.table)
        self.reduction = Reduction(self.table, outbox.add_soon, clock, timers, reduction)
        self.ingest = Ingest(self.table, self.reduction, clock, outbox.flushed, floor_ms=floor_ms)

    async def start(self) -> None:
        """Read the alarms that stand. Call before `configure`."""
        await self.alarms.load()

    def configure(
        self, devices: Sequence[DeviceConfig], overrides: Sequence[PointOverride], rules: Sequence[RuleConfig]
    ) -> None:
        """Take all files as they are now. Malformed: a rule does not compile; then nothing has changed."""
        compiled = compile_rules(rules)
        self.table.configure(devices, overrides)
        self.devices.configure(devices)
        self.rules.adopt(compiled)

    async def close(self) -> None:
        """Send open windows and batches to the outbox as they are, and wait until all is on disk."""
        self.reduction.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.alarms.settled(), CLOSE_TIMEOUT_S)
        await self.outbox.close()
        await self.alarms.close()

    def status(self) -> dict[str, Any]:
        """Counts of ingest and reduction, as plain JSON."""
        return {"ingest": self.ingest.status(), "reduction": self.reduction.status(), "points": len(self.table.states)}


def make_plane(
    store: OutboxStore, alarm_store: AlarmStore, clock: Clock, settings: ReductionSettings | None = None,
    *, floor_ms: int = 0, in_flight: int = 20,
) -> DataPlane:  # fmt: skip
    """A data plane with its outbox over `store`."""
    outbox = Outbox(store, clock, in_flight=in_flight)
    return DataPlane(outbox, alarm_store, clock, settings or ReductionSettings(), floor_ms=floor_ms)
