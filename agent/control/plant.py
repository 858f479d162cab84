"""Commands about what stands behind the gateway: points, devices, rules, alarms, and the way up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.control.inbox import Act, Decide, Read
from agent.control.ledger import Ledger
from agent.domain.alarm import Alarm
from agent.domain.command import Command, Reply
from agent.domain.container import as_json
from agent.domain.grants import check_filter
from agent.domain.journal import Change, StoredRule
from agent.domain.params import Filter, Key, Name, Nothing, Point, PointWrite, RuleText
from agent.domain.rule import RuleConfig
from agent.errors import Conflict, Malformed, NotFound


class PointsView(Protocol):
    """The point table, as far as this room reads it."""

    def names(self, filter_: str) -> Sequence[str]: ...
    def describe(self, name: str) -> Any | None: ...


class Writes(Protocol):
    """The way to an actuator. `waits` and `review`: which of two versions of an APP is asked."""

    waits: Callable[[str, str], bool]

    def review(self, instance: str) -> None: ...
    async def write(self, point: str, value: Any, *, mode: str, origin: str, who: str) -> Any: ...


class Devices(Protocol):
    """Field devices and how they are."""

    def devices(self, driver: str | None = None) -> Sequence[Any]: ...
    def status(self, name: str) -> Any: ...


class AlarmBook(Protocol):
    """The alarms that stand."""

    def active(self) -> list[Alarm]: ...
    def acknowledge(self, key: str) -> Alarm: ...


@dataclass(frozen=True, slots=True)
class RuleWork:
    """`status` tells what rules did; `parse` reads a text and raises Mistakes where it does not fit what stands."""

    status: Callable[[], Any]
    parse: Callable[[StoredRule], Sequence[RuleConfig]]


class PlantWork:
    """`reads`, `acts` and `decisions` are what the inbox takes."""

    def __init__(
        self,
        ledger: Ledger,
        points: PointsView,
        writes: Writes,
        devices: Devices,
        alarms: AlarmBook,
        rules: RuleWork,
    ) -> None:
        self._ledger = ledger
        self._points = points
        self._writes = writes
        self._devices = devices
        self._alarms = alarms
        self._rules = rules
        self.reads: dict[str, Read] = {
            "point.list": self.list_points,
            "point.read": self.read_point,
            "device.list": self.list_devices,
            "device.show": self.show_device,
            "rule.list": self.list_rules,
            "alarm.list": self.list_alarms,
        }
        self.acts: dict[str, Act] = {
            "point.write": self.write_point,
            "alarm.ack": self.acknowledge,
        }
        self.decisions: dict[str, Decide] = {"rule.apply": self.apply_rule, "rule.remove": self.remove_rule}

    async def list_points(self, params: Filter) -> Any:
        """Points whose name a filter covers, with their latest value."""
        wrong = check_filter(params.filter)
        if wrong is not None:
            hint = "+ is one level, # the rest"
            raise Malformed("point.filter", f"filter '{params.filter[:80]}': {wrong}", hint=hint)
        return [self._points.describe(name) for name in self._points.names(params.filter)]

    async def read_point(self, params: Point) -> Any:
        """One point: settings with their source, latest value."""
        found = self._points.describe(params.point)
        if found is None:
            raise NotFound("point.unknown", f"there is no point '{params.point}'", hint="see `ecgw point list`")
        return found

    async def write_point(self, command: Command, params: PointWrite) -> Any:
        """Write an actuator and wait for its driver's acknowledgement."""
        who = command.who or command.origin.value
        answer = await self._writes.write(
            params.point, params.value, mode=params.mode, origin=command.origin.value, who=who
        )
        return as_json(answer)

    async def list_devices(self, params: Nothing) -> Any:
        """Field devices, online or not, with communication statistics."""
        return [self._devices.status(device.name) for device in self._devices.devices()]

    async def show_device(self, params: Name) -> Any:
        """One field device."""
        return self._devices.status(params.name)

    async def list_rules(self, params: Nothing) -> Any:
        """Rules with their state, firings and measured latency."""
        return self._rules.status()

    async def list_alarms(self, params: Nothing) -> Any:
        """Alarms that stand, worst first."""
        order = ("critical", "major", "minor", "warning")
        alarms = sorted(self._alarms.active(), key=lambda a: (order.index(a.severity), a.raised_ms))
        return [{"key": alarm.key, **as_json(alarm)} for alarm in alarms]

    async def acknowledge(self, command: Command, params: Key) -> Any:
        """Somebody has seen the alarm."""
        return {"key": params.key, "acknowledged": self._alarms.acknowledge(params.key).acknowledged_ms}

    def apply_rule(self, command: Command, params: RuleText) -> tuple[Change, Reply]:
        """Apply rules under a name; every mistake at once, and then nothing changes."""
        owner = self._ledger.rules.get(params.name)
        if owner is not None and owner.origin != command.origin.value:
            raise Conflict("rule.owner", f"rules '{params.name}' are owned by {owner.origin}", owner=owner.origin)
        stored = StoredRule(params.name, command.origin.value, params.text)
        count = len(self._rules.parse(stored))
        return Change(rules=(stored,)), Reply(command.id, 200, data={"rules": count})

    def remove_rule(self, command: Command, params: Name) -> tuple[Change, Reply]:
        """Take applied rules away. Rules from files go with their file."""
        if params.name not in self._ledger.rules:
            known = ", ".join(sorted(self._ledger.rules)) or "none"
            hint = f"applied: {known}; rules from files go with their file"
            raise NotFound("rule.unknown", f"no rules were applied as '{params.name}'", hint=hint)
        return Change(rules_gone=(params.name,)), Reply(command.id, 200)
