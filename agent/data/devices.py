"""The field devices behind the gateway: what the files say of them, and what their drivers report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.data.alarms import AlarmBook
from agent.domain.alarm import Severity
from agent.domain.priority import Priority
from agent.domain.sample import DeviceConfig
from agent.errors import Malformed, NotFound, Refused
from agent.ports import Clock, OutRecord

MAX_STATS = 32
OFFLINE = "device.offline"


@dataclass(slots=True)
class DeviceStatus:
    """What the driver last said. `online` None: nothing yet. `stats` are the driver's own counters."""

    online: bool | None = None
    since_ms: int = 0
    reported_ms: int = 0
    stats: Mapping[str, float | int] = field(default_factory=dict)


class DeviceTable:
    """All devices, by name. Only the APP named as a device's driver may see and report it."""

    def __init__(self, alarms: AlarmBook, send: Callable[[OutRecord], None], clock: Clock) -> None:
        self._alarms = alarms
        self._send = send
        self._clock = clock
        self._devices: dict[str, DeviceConfig] = {}
        self._status: dict[str, DeviceStatus] = {}
        self.version = 0
        self.on_configured: list[Callable[[], None]] = []

    def configure(self, devices: Iterable[DeviceConfig]) -> None:
        """Take the files as they are now. `version` rises when something changed."""
        new = {device.name: device for device in devices}
        if new == self._devices:
            return
        for name in self._devices.keys() - new.keys():
            self._status.pop(name, None)
        for alarm in self._alarms.active():
            if alarm.source.startswith("device:") and alarm.source.removeprefix("device:") not in new:
                self._alarms.clear_alarm(alarm.source, alarm.code)
        self._devices = new
        self.version += 1
        for tell in self.on_configured:
            tell()

    def devices(self, driver: str | None = None) -> list[DeviceConfig]:
        """The devices of one driver, or all, by name."""
        found = (device for device in self._devices.values() if driver is None or device.driver == driver)
        return sorted(found, key=lambda device: device.name)

    def report(self, instance: str, device: str, online: bool, stats: Mapping[str, float | int] | None = None) -> None:
        """The driver's word. A change of `online` goes up as an event; offline also raises an alarm.

        Refused: not this instance's device, or none of that name. Malformed: stats are not a few numbers.
        """
        config = self._devices.get(device)
        if config is None or config.driver != instance:
            raise Refused(
                "device.not_driver", f"'{instance}' is not the driver of a device '{device[:100]}'",
                hint="name it as `driver` in the device's file",
            )  # fmt: skip
        kept = dict(stats or {})
        numbers = all(type(value) in (int, float) and value - value == 0 for value in kept.values())
        if len(kept) > MAX_STATS or not numbers or any(len(str(key)) > 64 for key in kept):
            raise Malformed("device.stats", f"stats are at most {MAX_STATS} named numbers", field="stats")
        status = self._status.setdefault(device, DeviceStatus())
        now_ms = self._clock.now_ms()
        if status.online is not online:
            # First of all, so that a full outbox (Busy) leaves everything as it was and the driver tries again.
            body = {"type": "device", "name": device, "driver": instance, "online": online, "t": now_ms, "stats": kept}
            self._send(OutRecord(Priority.NORMAL, "event", msgspec.json.encode(body)))
        status.reported_ms = now_ms
        status.stats = kept
        if status.online is online:
            return
        status.online = online
        status.since_ms = now_ms
        if online:
            self._alarms.clear_alarm(f"device:{device}", OFFLINE)
        else:
            self._alarms.raise_alarm(
                f"device:{device}", OFFLINE, Severity.MINOR, f"{device} does not answer its driver {instance}"
            )

    def status(self, name: str) -> dict[str, Any]:
        """One device as plain JSON. NotFound: no such device."""
        config = self._devices.get(name)
        if config is None:
            raise NotFound("device.unknown", f"there is no device '{name[:100]}'", hint="see `ecgw device list`")
        status = self._status.get(name, DeviceStatus())
        state = "unknown" if status.online is None else "online" if status.online else "offline"
        return {
            "name": name, "driver": config.driver, "port": config.port, "address": dict(config.address),
            "points": [point.name for point in config.points], "online": status.online, "state": state,
            "changed_ms": status.since_ms, "reported_ms": status.reported_ms, "stats": dict(status.stats), "source": config.source,
        }  # fmt: skip
