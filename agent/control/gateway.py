"""Commands about the gateway itself, and the index document that the cloud keeps of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from agent.control.enginewatch import EngineWatch
from agent.control.inbox import Read
from agent.control.ledger import Ledger
from agent.control.views import AppViews
from agent.control.wishes import Wishes
from agent.domain.alarm import Alarm
from agent.domain.params import Nothing, Tail
from agent.ports import Clock, Host


class RecentLines(Protocol):
    """The agent's own log."""

    def tail(self, count: int) -> list[str]: ...


class GatewayWork:
    """`reads` is what the inbox takes; `index` is the retained document."""

    def __init__(
        self, ledger: Ledger, engine: EngineWatch, views: AppViews, wishes: Wishes, host: Host, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._views = views
        self._wishes = wishes
        self._host = host
        self._clock = clock
        self.facts: Mapping[str, Any] = {}
        self.alarms: Callable[[], list[Alarm]] = list
        self.uplink: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
        self.log: RecentLines | None = None
        self.reads: dict[str, Read] = {
            "gateway.status": self.status,
            "gateway.logs": self.logs,
            "uplink.status": self.uplink_status,
        }

    def index(self) -> dict[str, Any]:
        """What is so on the whole gateway, latest only."""
        worst = [a.severity.value for a in self.alarms()]
        return {
            "gateway": dict(self.facts),
            "engine": "up" if self._engine.up else "down",
            "revision": self._wishes.revision,
            "refused": dict(self._wishes.refused),
            "alarms": {level: worst.count(level) for level in ("critical", "major", "minor", "warning")},
            "apps": {n: self._brief(n) for n in sorted(self._ledger.desired)},
        }

    async def status(self, params: Nothing) -> Any:
        """The index with the machine's present use and the state of the uplink."""
        usage = dict(await self._host.usage())
        uplink = dict(await self.uplink()) if self.uplink else {}
        link = {key: uplink.get(key) for key in ("connected", "records", "bytes", "hours_left")}
        return {**self.index(), "usage": usage, "uplink": link, "clock_sane": self._clock.sane()}

    async def logs(self, params: Tail) -> Any:
        """The last lines of the agent's own log."""
        return self.log.tail(params.tail) if self.log else []

    async def uplink_status(self, params: Nothing) -> Any:
        """Store-and-forward: depth, age, hours left, streams with their last sequence numbers."""
        return await self.uplink() if self.uplink else {}

    def _brief(self, instance: str) -> dict[str, Any]:
        summary = self._views.summary(instance)
        return {key: summary[key] for key in ("app", "version", "release", "phase", "owner", "message")}
