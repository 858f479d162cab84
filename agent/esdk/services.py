"""What the categories stand on, given by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.data.alarms import AlarmBook
from agent.data.devices import DeviceTable
from agent.data.points import PointTable
from agent.data.streams import ChangeStreams
from agent.data.writes import WriteHub
from agent.domain.sample import Sample
from agent.esdk.applog import AppLogs
from agent.esdk.desk import UplinkDesk
from agent.ports import Clock, Host


class Ingest(Protocol):
    """Where samples go (data/ingest.py)."""

    def accept(self, instance: str, samples: Sequence[Sample]) -> None:
        """Check, run rules, keep: all or nothing. Raises Malformed, Refused or Busy with field `index`."""
        ...

    async def flushed(self) -> None:
        """Return when what was accepted so far is on disk."""
        ...


@dataclass(frozen=True, slots=True)
class EsdkServices:
    """`use_of` tells what an instance's services use; `thresholds` are the gateway's own, by name."""

    ingest: Ingest
    points: PointTable
    streams: ChangeStreams
    writes: WriteHub
    alarms: AlarmBook
    devices: DeviceTable
    uplink: UplinkDesk
    host: Host
    clock: Clock
    logs: AppLogs
    use_of: Callable[[str], Awaitable[Mapping[str, Any]]]
    thresholds: Mapping[str, float] = field(default_factory=dict)
