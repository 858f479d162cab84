"""Alarms on what is used: the machine's own, each service's and each instance's disk, all with hysteresis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.control.converge.supervisor import Alarms, source
from agent.domain.alarm import Severity
from agent.domain.amounts import show_bytes
from agent.domain.container import ContainerState
from agent.domain.space import Disk
from agent.domain.threshold import Level, Threshold, observe
from agent.domain.usage import MOST_DEPTH, MOST_ENTRIES, DiskUse, Rates, Usage, percent_of

MACHINE = "gateway"
DISK_LIMIT = "disk_limit"
WHY_UNCOUNTED = (
    f"a folder of more than {MOST_ENTRIES:,} entries or {MOST_DEPTH} levels, or a disk too slow or unreadable"
)
_BAND = 10.0
_SHORT_BAND = 5.0
_A_MINUTE_S = 60.0
_FULL = Threshold(100.0, 95.0)
_UNCOUNTED = Threshold(0.5, 0.4)


@dataclass(frozen=True, slots=True)
class Lines:
    """What counts as scarce: the machine's lines by the settings' names, the APPs' in percent of their limits."""

    machine: Mapping[str, float] = field(default_factory=dict)
    mem_percent: float = 90.0
    pids_percent: float = 90.0
    throttled_percent: float = 50.0
    disk_percent: float = 90.0


class UseAlarms:
    """Keeps where each value stands; the alarm book hears of what crosses a line."""

    def __init__(self, alarms: Alarms, lines: Lines) -> None:
        self._alarms = alarms
        self._lines = lines
        # By whom it is about first: one of two hundred instances must not be searched for among all alarms.
        self._levels: dict[str, dict[tuple[str, str], Level]] = {}
        self._standing: frozenset[str] | None = None
        self._own_device: int | None = None

    def see_machine(self, usage: Mapping[str, Any], now: float) -> None:
        """One look at the machine, as `ports.Host.usage` tells it."""
        lines = self._lines.machine
        free = percent_of(usage.get("disk_free_bytes") or 0, usage.get("disk_bytes") or 0)
        used = percent_of(usage.get("mem_used_bytes") or 0, usage.get("mem_bytes") or 0)
        self._own_device = usage.get("disk_device", self._own_device)
        cpu, temperature = usage.get("cpu_percent"), usage.get("temperature_c")
        if (line := lines.get("disk_free_percent")) is not None:
            band = Threshold(line, line + _SHORT_BAND)
            self._see(MACHINE, "disk", Severity.MAJOR, band, free, now, f"{free or 0:.0f} % of the disk is free")
        if (line := lines.get("mem_used_percent")) is not None:
            band = Threshold(line, line - _SHORT_BAND, 30.0)
            self._see(MACHINE, "memory", Severity.MAJOR, band, used, now, f"{used or 0:.0f} % of the memory is used")
        if (line := lines.get("cpu_percent")) is not None:
            band = Threshold(line, line - _BAND, _A_MINUTE_S)
            said = f"the processor has been over {line:.0f} % busy for a minute"
            self._see(MACHINE, "cpu", Severity.WARNING, band, cpu, now, said)
        if (line := lines.get("temperature_c")) is not None:
            band = Threshold(line, line - _SHORT_BAND)
            self._see(MACHINE, "temperature", Severity.MAJOR, band, temperature, now, f"{temperature} degrees C")

    def see_engine_disk(self, disk: Disk, now: float) -> None:
        """One look at the disk where the engine keeps images and volumes. Where it is the gateway's own, that is enough.

        The kernel's device number tells: two subvolumes of one file system have two, and then both alarms.
        """
        line = self._lines.machine.get("disk_free_percent")
        if line is None or self._own_device is None:
            return
        apart = disk.device != self._own_device
        free = 100.0 - disk.used_percent
        said = f"{free:.0f} % of the disk is free where the engine keeps images and volumes"
        band = Threshold(line, line + _SHORT_BAND)
        self._see(MACHINE, "engine_disk", Severity.MAJOR, band, free if apart else 100.0, now, said)

    def see_service(self, container: ContainerState, usage: Usage, rates: Rates, now: float) -> None:
        """One look at a running service."""
        name = f"{container.instance}: service {container.service}"
        at = source(container.instance, container.service)
        lines = self._lines
        memory = percent_of(usage.mem_bytes, usage.mem_limit_bytes)
        said = f"{name} uses {show_bytes(usage.mem_bytes)} of {show_bytes(usage.mem_limit_bytes)} memory"
        band = Threshold(lines.mem_percent, lines.mem_percent - _BAND, 30.0)
        self._see(at, "memory_high", Severity.WARNING, band, memory, now, said)
        pids = percent_of(usage.pids, usage.pids_limit)
        said = f"{name} has {usage.pids} of {usage.pids_limit} processes"
        band = Threshold(lines.pids_percent, lines.pids_percent - _BAND)
        self._see(at, "pids_high", Severity.WARNING, band, pids, now, said)
        said = f"{name} wants more processor than its limit lets it have"
        band = Threshold(lines.throttled_percent, lines.throttled_percent / 2, _A_MINUTE_S)
        self._see(at, "throttled", Severity.WARNING, band, rates.throttled_percent, now, said)

    def is_past_limit(self, instance: str) -> bool:
        """Whether the last count found it past its limit, also an earlier agent's."""
        at = f"app:{instance}"
        known = self._levels.get(at, {}).get((at, DISK_LIMIT))
        return known.raised if known is not None else f"{at}/{DISK_LIMIT}" in self._inherited()

    def see_disk(self, instance: str, used: DiskUse, limit_bytes: int, now: float) -> bool:
        """One count of an instance's disk; True when it is past its limit.

        What was not counted to its end is at least so much: it may raise an alarm, and ends none.
        """
        share = percent_of(used.total_bytes, limit_bytes)
        at, line = f"app:{instance}", self._lines.disk_percent
        said = f"{instance}: {disk_words(used, limit_bytes)}"
        high = Threshold(line, line - _BAND)
        for code, severity, band, words in (
            ("disk_high", Severity.WARNING, high, said),
            (DISK_LIMIT, Severity.MAJOR, _FULL, f"{said}: past its limit; clean up, then start it if it is stopped"),
        ):
            known = share is not None and (used.complete or band.beyond(share))
            self._see(at, code, severity, band, share if known else None, now, words)
        unheld = f"{said}; it was not counted to its end, so its limit cannot be relied on ({WHY_UNCOUNTED})"
        self._see(at, "disk_uncounted", Severity.MAJOR, _UNCOUNTED, float(not used.complete), now, unheld)
        return share is not None and _FULL.beyond(share)

    def keep(self, instance: str, running: frozenset[str]) -> None:
        """Of the instance only these services run: what others used is no news any more."""
        own = self._levels.get(f"app:{instance}", {})
        for at, code in list(own):
            _, of_service, service = at.partition("/")
            if of_service and service not in running:
                self._drop(own, (at, code))

    def forget(self, instance: str) -> None:
        """The instance is gone."""
        own = self._levels.pop(f"app:{instance}", {})
        for key in list(own):
            self._drop(own, key)

    def _drop(self, own: dict[tuple[str, str], Level], key: tuple[str, str]) -> None:
        if own.pop(key).raised:
            self._alarms.clear_alarm(*key)

    def _see(
        self, at: str, code: str, severity: Severity, threshold: Threshold, value: float | None, now: float, said: str
    ) -> None:
        key = (at, code)
        own = self._levels.setdefault(at.partition("/")[0], {})
        before = own.get(key)
        if before is None:
            # What an earlier agent raised stands until the value is back behind the line.
            before = Level(f"{at}/{code}" in self._inherited())
        after = own[key] = observe(before, threshold, value, now)
        if after.raised and not before.raised:
            self._alarms.raise_alarm(at, code, severity, said)
        elif before.raised and not after.raised:
            self._alarms.clear_alarm(at, code)

    def _inherited(self) -> frozenset[str]:
        if self._standing is None:
            self._standing = frozenset(alarm.key for alarm in self._alarms.active())
        return self._standing


def disk_words(used: DiskUse, limit_bytes: int) -> str:
    """``disk: 312 MiB of 200 MiB``: in the alarm and in the hold."""
    least = "" if used.complete else "at least "
    return f"disk: {least}{show_bytes(used.total_bytes)} of {show_bytes(limit_bytes)}"
