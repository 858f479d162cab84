"""A data plane on a hand-wound clock, with the stores in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.data.commands import AppCommand, CommandStream
from agent.data.outbox import Outbox
from agent.data.plane import DataPlane
from agent.data.reduction import ReductionSettings
from agent.domain.override import PointOverride
from agent.domain.priority import Priority
from agent.domain.rule import RuleConfig
from agent.domain.sample import DeviceConfig, PointConfig, Quality, Sample, Scalar, WriteLimits
from tests.fakes.hand_clock import HandClock, HandTimers
from tests.fakes.outbox import FakeAlarmStore, FakeOutboxStore

SETTINGS = ReductionSettings(window_s=10.0, lateness_s=1.0, batch_items=100, batch_after_s=1.0)
TEMP = PointConfig("boiler/temp", device="boiler", range=(0.0, 150.0), window_s=10.0, source="boiler.yaml:5")
VALVE = PointConfig("boiler/valve", device="boiler", type="int", writable=True, limits=WriteLimits(0, 100))
STATE = PointConfig("boiler/state", device="boiler", type="string")
PUMP = PointConfig("boiler/pump", device="boiler", type="bool", writable=True)
BOILER = DeviceConfig("boiler", "modbus-1", points=(TEMP, VALVE, STATE, PUMP), source="boiler.yaml:2")


@dataclass
class Rig:
    """`plane` and all it stands on."""

    clock: HandClock = field(default_factory=HandClock)
    store: FakeOutboxStore = field(default_factory=FakeOutboxStore)
    alarm_store: FakeAlarmStore = field(default_factory=FakeAlarmStore)
    floor_ms: int = 1_700_000_000_000

    def __post_init__(self) -> None:
        self.timers = HandTimers(self.clock)
        outbox = Outbox(self.store, self.clock)
        self.plane = DataPlane(
            outbox, self.alarm_store, self.clock, SETTINGS, floor_ms=self.floor_ms, timers=self.timers
        )

    def configure(self, *rules: RuleConfig, devices: Sequence[DeviceConfig] = (BOILER,)) -> Rig:
        """The boiler and these rules."""
        self.plane.configure(devices, (), rules)
        return self

    def override(self, *overrides: PointOverride) -> None:
        """The boiler and these overrides."""
        self.plane.configure((BOILER,), overrides, ())

    def sample(self, point: str, value: Scalar, *, ago_s: float = 0.0, q: Quality = Quality.GOOD) -> Sample:
        """A sample `ago_s` old."""
        return Sample(point, value, int(self.clock.now_ms() - ago_s * 1000), q)

    def feed(self, point: str, *values: Scalar, instance: str = "modbus-1", step_s: float = 1.0) -> None:
        """One sample a request, `step_s` apart."""
        for value in values:
            self.timers.advance(step_s)
            self.plane.ingest.accept(instance, [self.sample(point, value)])

    async def sent(self, priority: Priority | None = None) -> list[dict[str, Any]]:
        """What is in the outbox, batches taken apart."""
        await self.plane.ingest.flushed()
        bodies: list[dict[str, Any]] = []
        for stored in sorted(self.store.rows.values(), key=lambda each: each.row):
            if priority is None or stored.priority is priority:
                body = msgspec.json.decode(stored.payload)
                bodies += body.get("items", [body])
        return bodies


def taken(stream: CommandStream) -> list[tuple[str, Scalar]]:
    """What waits on a command stream."""
    return [(command.point, command.value) for command in stream.drain()]


def ids(commands: Sequence[AppCommand]) -> list[str]:
    """Their ids."""
    return [command.id for command in commands]
