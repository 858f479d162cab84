"""One instance at its socket: what it is, what it may do, what it uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agent.domain.appview import AppView
from agent.domain.grants import Grants
from agent.errors import Refused
from agent.esdk.quotas import Meter, Quota


class Session:
    """Lives as long as the instance's socket; every connection of the instance shares it."""

    def __init__(self, view: AppView, quota: Quota, now: Callable[[], float]) -> None:
        self.view = view
        self.meter = Meter(quota, now)
        self.heartbeats_s: dict[str, float] = {}
        self._due_s: dict[str, float] = {}
        self.config_version = 1
        self._now = now
        self._config_changed: set[asyncio.Event] = set()

    @property
    def instance(self) -> str:
        """The instance's name."""
        return self.view.instance

    @property
    def grants(self) -> Grants:
        """What it was granted; may change between two requests."""
        return self.view.grants

    def update(self, view: AppView) -> None:
        """Take the instance as it is now; tell who watches its configuration."""
        changed = dict(view.config) != dict(self.view.config)
        self.view = view
        if changed:
            self.config_version += 1
            for event in self._config_changed:
                event.set()

    def watch_config(self) -> asyncio.Event:
        """An event that is set at each change of the configuration; give it back with `unwatch_config`."""
        event = asyncio.Event()
        self._config_changed.add(event)
        return event

    def unwatch_config(self, event: asyncio.Event) -> None:
        """Nobody waits for it any more."""
        self._config_changed.discard(event)

    def beat(self, service: str, next_within_s: float = 0.0) -> None:
        """A heartbeat of one service. It promises the next one within `next_within_s` seconds; 0: it promises nothing."""
        now_s = self._now()
        self.heartbeats_s[service] = now_s
        if next_within_s > 0:
            self._due_s[service] = now_s + next_within_s
        else:
            self._due_s.pop(service, None)

    def late_s(self) -> dict[str, float]:
        """By how many seconds each promised heartbeat is late; those in time are left out."""
        now_s = self._now()
        return {service: now_s - due_s for service, due_s in self._due_s.items() if now_s > due_s}

    def restarted(self, service: str) -> None:
        """The service starts anew: its promise is void."""
        self._due_s.pop(service, None)

    def heartbeat_ages_s(self) -> dict[str, float]:
        """Seconds since each service's last heartbeat; a service that never sent one is not in it."""
        now_s = self._now()
        return {service: round(now_s - at_s, 3) for service, at_s in self.heartbeats_s.items()}


def not_granted(permission: str, what: str, **fields: Any) -> Refused:
    """The refusal that names what is missing, the same whether or not the thing exists."""
    return Refused(
        "esdk.not_granted",
        f"this APP may not {what}",
        hint=f"grant it in the manifest: x-ec.permissions.{permission}",
        permission=permission,
        **fields,
    )
