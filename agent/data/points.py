"""The table of points: settings, owner and latest value of every point the gateway knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.domain.batch import SampleItem
from agent.domain.grants import matches
from agent.domain.override import PointOverride
from agent.domain.sample import POINT_NAME, DeviceConfig, PointConfig, Quality, Scalar
from agent.errors import Busy, Malformed, Refused

MAX_UNDECLARED = 2_000
MAX_NAME = 512


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of a point. Times are epoch ms; `unsynced`: the sample's time was not to be trusted."""

    point: str
    value: Scalar
    t_ms: int
    q: Quality
    received_ms: int
    unsynced: bool = False


class Reducer(Protocol):
    """What thins the samples of one point (data/reduction.py)."""

    def take(self, t_ms: int, value: Scalar, quality: Quality, now_s: float, unsynced: bool) -> None: ...


class RuleInput(Protocol):
    """A rule that looks again at every sample of a point (data/rules.py)."""

    def look(self, started_s: float) -> None: ...


class Watcher(Protocol):
    """A subscription to changes (data/streams.py)."""

    def offer(self, update: SampleItem) -> None: ...


class PointState:
    """One point as the hot path sees it. Only `Ingest` writes the values; each room attaches its own part."""

    __slots__ = (
        "config", "declared", "high", "kind", "low", "name", "order_ms", "owner", "previous", "previous_ms", "q",
        "received_ms", "reducer", "rules", "seen_s", "t_ms", "unsynced", "value", "watchers",
    )  # fmt: skip

    def __init__(self, config: PointConfig, owner: str, *, declared: bool) -> None:
        self.name = config.name
        self.value: Scalar | None = None
        self.previous: Scalar | None = None
        self.t_ms = self.previous_ms = self.order_ms = self.received_ms = 0
        self.seen_s = 0.0
        self.q = Quality.GOOD
        self.unsynced = False
        self.rules: tuple[RuleInput, ...] = ()
        self.watchers: tuple[Watcher, ...] = ()
        self.reducer: Reducer | None = None
        self.configure(config, owner, declared=declared)

    def configure(self, config: PointConfig, owner: str, *, declared: bool) -> None:
        """Take new settings. The latest value stays, unless it no longer fits the type."""
        self.config = config
        self.owner = owner
        self.declared = declared
        self.kind = config.type
        self.low: float | None = config.range[0] if config.range is not None else None
        self.high: float | None = config.range[1] if config.range is not None else None
        if self.value is not None and not fits(self.kind, self.value):
            self.value = self.previous = None


class PointTable:
    """All points, by name. Names are unique on the gateway and each has one owner, an APP instance or "".

    Declared points come from device files and belong to the device's driver. An APP may make others appear within
    its `publish` filters, at most `max_undeclared` each.
    """

    def __init__(self, *, max_undeclared: int = MAX_UNDECLARED) -> None:
        self.states: dict[str, PointState] = {}
        self.on_configured: list[Callable[[PointState], None]] = []
        self.on_removed: list[Callable[[PointState], None]] = []
        self._max_undeclared = max_undeclared
        self._undeclared: dict[str, int] = {}
        self._publishers: Mapping[str, tuple[str, ...]] = {}
        self._overrides: tuple[PointOverride, ...] = ()

    def configure(self, devices: Iterable[DeviceConfig], overrides: Sequence[PointOverride]) -> None:
        """Take the files as they are now. Points that stay keep their latest value."""
        self._overrides = tuple(sorted(overrides, key=lambda each: each.breadth))
        declared = {point.name: (point, point.owner or device.driver) for device in devices for point in device.points}
        for config, owner in declared.values():
            self._put(self._overridden(config), owner, declared=True)
        for name in [name for name in self.states if name not in declared]:
            self._settle_undeclared(self.states[name])
        self._count_undeclared()

    def set_publishers(self, publishers: Mapping[str, Sequence[str]]) -> None:
        """Say which instances may publish what. An undeclared point that nobody may publish any more goes."""
        self._publishers = {instance: tuple(filters) for instance, filters in publishers.items()}
        for state in [state for state in self.states.values() if not state.declared]:
            self._settle_undeclared(state)
        self._count_undeclared()

    def propose(
        self, instance: str, name: str, value: Scalar, index: int, proposed: Mapping[str, PointState]
    ) -> PointState:
        """The state of a name not seen before, not in the table yet: `adopt` it once the whole batch is fine.

        Refused, Malformed or Busy name the sample's `index`.
        """
        if name in proposed:
            return proposed[name]
        if len(name) > MAX_NAME or POINT_NAME.match(name) is None:
            raise Malformed(
                "point.name", f"sample {index}: '{name[:80]}' is not a point name",
                hint="1 to 8 segments of A-Z a-z 0-9 _ . - separated by '/'", field=f"{index}.p", index=index,
            )  # fmt: skip
        if not self.may_publish(instance, name):
            raise Refused(
                "point.not_owner", f"sample {index}: '{instance}' does not own the point '{name}'",
                hint="publish only points of your own devices or within permissions.points.publish", index=index,
            )  # fmt: skip
        count = self._undeclared.get(instance, 0) + len(proposed)
        if count >= self._max_undeclared:
            raise Busy(
                "point.too_many", f"sample {index}: '{instance}' already publishes {count} points of its own",
                hint="declare points in devices.d, or use fewer names", index=index, retry_after_s=60,
            )  # fmt: skip
        kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "float"
        config = PointConfig(name, owner=instance, type=kind, source=f"published by {instance}")
        return PointState(self._overridden(config), instance, declared=False)

    def adopt(self, proposed: Mapping[str, PointState]) -> None:
        """Take proposed points into the table."""
        for name, state in proposed.items():
            self.states[name] = state
            self._undeclared[state.owner] = self._undeclared.get(state.owner, 0) + 1
            for tell in self.on_configured:
                tell(state)

    def may_publish(self, instance: str, name: str) -> bool:
        """True when the instance owns the point, or may make it appear."""
        state = self.states.get(name)
        if state is not None:
            return state.owner == instance
        return any(matches(each, name) for each in self._publishers.get(instance, ()))

    def config(self, name: str) -> PointConfig | None:
        """The effective settings, or None for an unknown point."""
        state = self.states.get(name)
        return state.config if state is not None else None

    def owner(self, name: str) -> str:
        """The instance that owns the point, "" for nobody."""
        state = self.states.get(name)
        if state is not None:
            return state.owner
        owners = (who for who, filters in self._publishers.items() if any(matches(each, name) for each in filters))
        return next(owners, "")

    def latest(self, name: str) -> Latest | None:
        """The newest value, or None when there is none yet."""
        state = self.states.get(name)
        if state is None or state.value is None:
            return None
        return Latest(name, state.value, state.t_ms, state.q, state.received_ms, state.unsynced)

    def names(self, topic_filter: str = "#") -> list[str]:
        """The names that the filter covers, sorted."""
        return sorted(name for name in self.states if matches(topic_filter, name))

    def describe(self, name: str) -> dict[str, Any] | None:
        """Settings and latest value as plain JSON, for people and replies."""
        state = self.states.get(name)
        if state is None:
            return None
        config = state.config
        row: dict[str, Any] = {
            "point": name, "owner": state.owner, "device": config.device, "type": config.type, "unit": config.unit,
            "range": list(config.range) if config.range else None, "resolution": config.resolution,
            "deadband": config.deadband, "max_interval_s": config.max_interval_s, "window_s": config.window_s,
            "priority": config.priority.value, "writable": config.writable, "declared": state.declared,
            "limits": {"min": config.limits.min, "max": config.limits.max}, "source": config.source,
        }  # fmt: skip
        if config.safe is not None:
            row["safe"] = {"value": config.safe.value, "after_s": config.safe.after_s}
        if state.value is not None:
            row |= {"v": state.value, "t": state.t_ms, "q": state.q.value, "received": state.received_ms}
            row["unsynced"] = state.unsynced
        return row

    def _put(self, config: PointConfig, owner: str, *, declared: bool) -> PointState:
        state = self.states.get(config.name)
        config = config if config.owner == owner else replace(config, owner=owner)
        if state is None:
            state = self.states[config.name] = PointState(config, owner, declared=declared)
        elif (state.config, state.owner, state.declared) == (config, owner, declared):
            return state
        else:
            state.configure(config, owner, declared=declared)
        for tell in self.on_configured:
            tell(state)
        return state

    def _settle_undeclared(self, state: PointState) -> None:
        """A point without a device file stays while an instance may publish it, with the overrides of now."""
        owner = state.owner if any(matches(f, state.name) for f in self._publishers.get(state.owner, ())) else ""
        if not owner:
            del self.states[state.name]
            for tell in self.on_removed:
                tell(state)
            return
        source = f"published by {owner}"
        base = PointConfig(state.name, owner=owner, type=state.kind if not state.declared else "float", source=source)
        self._put(self._overridden(base), owner, declared=False)

    def _overridden(self, config: PointConfig) -> PointConfig:
        for override in self._overrides:
            if matches(override.filter, config.name):
                config = override.apply(config)
        return config

    def _count_undeclared(self) -> None:
        self._undeclared = {}
        for state in self.states.values():
            if not state.declared:
                self._undeclared[state.owner] = self._undeclared.get(state.owner, 0) + 1


def fits(kind: str, value: Scalar) -> bool:
    """True when `value` is of the point type `kind`: float (any number), int, bool or string."""
    if isinstance(value, bool | str):
        return kind == ("bool" if isinstance(value, bool) else "string")
    return kind == "float" or (kind == "int" and isinstance(value, int))
