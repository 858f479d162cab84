"""What instances use, looked at now and then: cheap counters often, folders on disk seldom and one at a time.

The cost is bounded, not the delay: counters cost 0.1 ms a container every 15 s; counting folders takes at most a fixed
share of the time, less often where nothing changes, and at once when the disk loses room quickly.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.domain.container import ContainerState
from agent.domain.journal import Change
from agent.domain.planner import Observed
from agent.domain.space import Disk
from agent.domain.usage import DiskUse, Rates, Usage, describe_usage, is_news, rates_between
from agent.errors import GatewayError
from agent.ports import Clock, Meter

log = logging.getLogger("agent.control.watch.metering")

MIB = 1024**2
FAST_LOSS_BYTES = 16 * MIB
STEADY_BYTES = MIB


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between two rounds, two looks at one instance, two counts of its disk (at first, at most).

    `rest` is how many times longer the counter rests than it counted; what is new is told every `tell_s` at most.
    """

    tick_s: float = 5.0
    look_s: float = 15.0
    measure_s: float = 60.0
    measure_most_s: float = 600.0
    rest: float = 30.0
    tell_s: float = 60.0


class Watch(Protocol):
    """Who acts on what is found."""

    def see_service(self, container: ContainerState, usage: Usage, rates: Rates, now: float) -> None: ...
    def stage(self, instance: str) -> object:
        """What is decided about it: equal as long as nothing else is."""
        ...

    async def see_disk(self, instance: str, used: DiskUse, stage: object, now: float) -> bool:
        """True when it should be counted again soon: near or past its limit, or not in the `stage` any more of the count."""
        ...

    def keep(self, instance: str, running: frozenset[str]) -> None: ...
    def forget(self, instance: str) -> None: ...
    async def each_round(self, now: float) -> None: ...
    def disk_limit(self, instance: str) -> int: ...


@dataclass(slots=True)
class _Known:
    """One instance: its last looks by service, its disk, when either is due."""

    look_at: float
    measure_at: float
    every_s: float
    last: dict[str, tuple[str, Usage, float]] = field(default_factory=dict)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    disk: DiskUse | None = None
    capped: tuple[tuple[str, ...], int] = ((), 0)
    hard: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)
    told_at: float = float("-inf")


class Metering:
    """`observed` are the instances as last listed; `folder` is where the engine keeps its data ("" not known yet)."""

    def __init__(
        self,
        meter: Meter,
        clock: Clock,
        watch: Watch,
        observed: Mapping[str, Observed],
        folder: Callable[[], str],
        pace: Pace | None = None,
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._watch = watch
        self._observed = observed
        self._folder = folder
        self._pace = pace or Pace()
        self._known: dict[str, _Known] = {}
        self._free: int | None = None
        self._hurry = asyncio.Event()
        self._disk_told_at = float("-inf")
        self.on_news: list[Callable[[str], None]] = []
        self.on_disk: list[Callable[[Disk], None]] = []
        """Told once every `measure_s` how full the engine's disk is."""

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_ever(), name="metering-look")
            group.create_task(self._measure_for_ever(), name="metering-measure")

    def use(self, instance: str) -> dict[str, Any]:
        """What the instance uses, as last seen; empty parts are not known yet."""
        known = self._known.get(instance)
        if known is None:
            return {}
        return {"services": dict(known.shown), "disk": self._show_disk(instance, known.disk, hard=known.hard)}

    def told(self, instance: str) -> Mapping[str, Any]:
        """The same as a link that costs money carries it: renewed only when it says something new."""
        known = self._known.get(instance)
        return known.told if known is not None else {}

    def see_change(self, change: Change) -> None:
        """Something was decided about an instance, such as its start after a clean-up: its disk is counted at once."""
        for desired in change.desired:
            if desired.name in self._known:
                self._known[desired.name].measure_at = self._clock.monotonic()
                self._hurry.set()

    # -- counters -----------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._pace.tick_s)
            try:
                await self.look()
            except (GatewayError, TimeoutError) as error:
                log.warning("not_measured reason=%s", error)
            except Exception:
                log.exception("look_failed")

    async def look(self) -> None:
        """One round: the instances that are due, and whether the disk loses room quickly."""
        now = self._clock.monotonic()
        for gone in self._known.keys() - self._observed.keys():
            del self._known[gone]
            self._watch.forget(gone)
        for instance in self._observed.keys() - self._known.keys():
            # Spread, so that two hundred that came at once are not due at once for ever.
            look_at = now + random.random() * self._pace.look_s
            self._known[instance] = _Known(look_at, now + random.random() * self._pace.look_s, self._pace.measure_s)
        due = [i for i, known in self._known.items() if known.look_at <= now]
        containers = {i: [c for c in self._observed[i].containers if c.pid > 0] for i in due}
        used = await self._meter.read([c for each in containers.values() for c in each]) if due else {}
        now = self._clock.monotonic()
        for instance, each in containers.items():
            self._take(instance, [(c, used[c.id]) for c in each if c.id in used], now)
        await self._watch_disk(now)
        await self._watch.each_round(now)

    def _take(self, instance: str, seen: list[tuple[ContainerState, Usage]], now: float) -> None:
        known = self._known.get(instance)
        if known is None:
            return
        known.look_at = now + self._pace.look_s
        known.shown = {}
        for container, usage in seen:
            run = f"{container.id} {container.started_at}"
            before = known.last.get(container.service)
            same = before is not None and before[0] == run
            rates = rates_between(before[1], usage, now - before[2]) if before is not None and same else Rates()
            known.last[container.service] = (run, usage, now)
            known.shown[container.service] = describe_usage(usage, rates)
            self._watch.see_service(container, usage, rates, now)
        running = frozenset(known.shown)
        known.last = {service: last for service, last in known.last.items() if service in running}
        self._watch.keep(instance, running)
        self._tell(instance, known, now)

    def _tell(self, instance: str, known: _Known, now: float) -> None:
        shown = self.use(instance)
        if now - known.told_at >= self._pace.tell_s and is_news(known.told, shown):
            known.told, known.told_at = shown, now
            for tell in self.on_news:
                tell(instance)

    # -- disk ---------------------------------------------------------------------------------------------------

    async def _watch_disk(self, now: float) -> None:
        folder = self._folder()
        disk = await self._meter.disk(folder) if folder else None
        free = disk.free_bytes if disk is not None else None
        lost = (self._free or 0) - free if free is not None and self._free is not None else 0
        self._free = free
        if lost >= FAST_LOSS_BYTES:
            for known in self._known.values():
                known.measure_at = min(known.measure_at, now)
            self._hurry.set()
        if disk is not None and now - self._disk_told_at >= self._pace.measure_s:
            self._disk_told_at = now
            for tell in self.on_disk:
                tell(disk)

    async def _measure_for_ever(self) -> None:
        while True:
            instance = self._next_due()
            if instance is None:
                self._hurry.clear()
                try:
                    # Not wait_for: woken and cancelled in one turn of the loop, it forgets that it was cancelled.
                    async with asyncio.timeout(self._pace.tick_s):
                        await self._hurry.wait()
                except TimeoutError:
                    continue
                continue
            began = self._clock.monotonic()
            try:
                await self.measure(instance)
            except (GatewayError, TimeoutError) as error:
                log.warning("disk_not_measured instance=%s reason=%s", instance, error)
            except Exception:
                log.exception("measure_failed instance=%s", instance)
            took = self._clock.monotonic() - began
            await asyncio.sleep(min(self._pace.tick_s, took * self._pace.rest))

    def _next_due(self) -> str | None:
        now = self._clock.monotonic()
        due = [(known.measure_at, i) for i, known in self._known.items() if known.measure_at <= now]
        return min(due)[1] if due else None

    async def measure(self, instance: str) -> None:
        """Count what the instance takes on disk."""
        observed, known = self._observed.get(instance), self._known.get(instance)
        if observed is None or known is None:
            return
        known.measure_at = self._clock.monotonic() + known.every_s
        if not observed.containers:
            return  # a version that is stopped and was never started: where its data lie is not known yet
        places = [c.places for c in observed.containers]
        layers = [p.layer for p in places if p.layer]
        logs = [p.log for p in places if p.log]
        volumes = sorted({v for p in places for v in p.volumes})
        limit = self._watch.disk_limit(instance)
        if limit and known.capped != (tuple(volumes), limit):
            known.hard = await self._meter.cap(instance, volumes, limit)
            known.capped = (tuple(volumes), limit)
        stage = self._watch.stage(instance)
        sizes = await self._meter.measure([*layers, *logs, *volumes])
        disk = DiskUse(
            sum(sizes[each].bytes for each in layers),
            sum(sizes[each].bytes for each in logs),
            sum(sizes[each].bytes for each in volumes),
            complete=all(size.complete for size in sizes.values()),
        )
        now = self._clock.monotonic()
        steady = known.disk is not None and abs(known.disk.total_bytes - disk.total_bytes) < STEADY_BYTES
        known.disk = disk
        near = await self._watch.see_disk(instance, disk, stage, now)
        if near:
            known.every_s = self._pace.measure_s / 4
        else:
            known.every_s = min(self._pace.measure_most_s, known.every_s * 2) if steady else self._pace.measure_s
        known.measure_at = now + known.every_s
        self._tell(instance, known, now)

    def _show_disk(self, instance: str, disk: DiskUse | None, *, hard: bool) -> dict[str, Any]:
        if disk is None:
            return {}
        return {
            "layer_bytes": disk.layer_bytes,
            "log_bytes": disk.log_bytes,
            "volume_bytes": disk.volume_bytes,
            "total_bytes": disk.total_bytes,
            "limit_bytes": self._watch.disk_limit(instance),
            "complete": disk.complete,
            "hard": hard,
        }
