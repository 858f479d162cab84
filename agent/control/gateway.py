"""Commands about the gateway itself, and the index document that the cloud keeps of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agent.control.apps.views import AppViews
from agent.control.inbox import Read
from agent.control.ledger import Ledger
from agent.control.north.wishes import Wishes
from agent.control.watch.enginewatch import EngineWatch
from agent.domain.alarm import Alarm
from agent.domain.params import Nothing, Tail
from agent.ports import Clock, Host


class RecentLines(Protocol):
    """The agent's own log."""

    def tail(self, count: int) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Box:
    """What there is to tell of the gateway besides its APPs: the machine, its time, its log, alarms, the way up.

    `link` is how the session with the broker is, empty without a cloud.
    """

    gateway: str
    host: Host
    clock: Clock
    log: RecentLines
    alarms: Callable[[], list[Alarm]]
    uplink: Callable[[], Awaitable[Mapping[str, Any]]]
    link: Callable[[], Mapping[str, Any]]


class GatewayWork:
    """`reads` is what the inbox takes; `index` is the retained document."""

    def __init__(self, ledger: Ledger, engine: EngineWatch, views: AppViews, wishes: Wishes, box: Box) -> None:
        self._ledger = ledger
        self._engine = engine
        self._views = views
        self._wishes = wishes
        self._box = box
        self._facts: Mapping[str, Any] = {}
        self.reads: dict[str, Read] = {
            "gateway.status": self.status,
            "gateway.logs": self.logs,
            "uplink.status": self.uplink_status,
        }

    async def learn(self) -> None:
        """Find out what machine this is, once."""
        self._facts = {"id": self._box.gateway, **await self._box.host.facts()}

    @property
    def boot_id(self) -> str:
        """Which boot of the machine this is; "" when it cannot tell."""
        return str(self._facts.get("boot_id", ""))

    def index(self) -> dict[str, Any]:
        """What is so on the whole gateway, latest only."""
        worst = [a.severity.value for a in self._box.alarms()]
        return {
            "gateway": dict(self._facts),
            "engine": "up" if self._engine.up else "down",
            "revision": self._wishes.revision,
            "refused": dict(self._wishes.refused),
            "waiting": dict(self._wishes.waiting),
            "alarms": {level: worst.count(level) for level in ("critical", "major", "minor", "warning")},
            "apps": {n: self._brief(n) for n in sorted(self._ledger.desired)},
        }

    async def status(self, params: Nothing) -> Any:
        """The index with the machine's present use and the state of the uplink."""
        usage = dict(await self._box.host.usage())
        usage.pop("disk_device", None)  # a number of the kernel's, for nobody's eyes
        uplink = await self._box.uplink()
        link = {key: uplink.get(key) for key in ("connected", "records", "bytes", "hours_left")}
        return {**self.index(), "usage": usage, "uplink": link, "clock_sane": self._box.clock.sane()}

    async def logs(self, params: Tail) -> Any:
        """The last lines of the agent's own log."""
        return self._box.log.tail(params.tail)

    async def uplink_status(self, params: Nothing) -> Any:
        """Store-and-forward: depth, age, hours left, streams with their last numbers; the link and its last trouble."""
        return {**await self._box.uplink(), "link": dict(self._box.link())}

    def _brief(self, instance: str) -> dict[str, Any]:
        summary = self._views.summary(instance)
        return {key: summary[key] for key in ("app", "version", "release", "phase", "owner", "message")}
