"""The alarm book: one key, one episode. Raising an active alarm again only counts; it is cleared once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

import msgspec

from agent.data.background import Background
from agent.data.timers import Handle, Timers
from agent.domain.alarm import Alarm, Severity
from agent.domain.priority import Priority
from agent.errors import GatewayError, NotFound
from agent.ports import Clock, OutRecord

log = logging.getLogger("agent.data.alarms")

MAX_REMEMBERED = 2_000
MAX_MESSAGE = 500
RETRY_S = 1.0
COUNT_SAVE_S = 1.0
# An alarm that came and went so often is flapping: it then stands until it has been quiet for a while.
FLAP_EPISODES = 10
FLAP_WINDOW_S = 60.0
FLAP_QUIET_S = 10.0

_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class AlarmStore(Protocol):
    """Where active alarms are kept. A cleared one may be forgotten."""

    async def save_alarm(self, alarm: Alarm) -> None: ...
    async def load_alarms(self) -> list[Alarm]: ...


class Sender(Protocol):
    """The outbox, as far as alarms need it."""

    def add_soon(self, record: OutRecord) -> None: ...
    async def flushed(self) -> None: ...


class AlarmBook:
    """All alarms of this gateway.

    `source` is ``rule:<name>``, ``app:<instance>``, ``device:<name>``, ``file:<instance>`` or a room's name. A change is
    in the outbox (critical) before it is in the store: after a crash the cloud may hear of a raise twice, never not at
    all.
    """

    def __init__(self, store: AlarmStore, sender: Sender, clock: Clock, timers: Timers) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._timers = timers
        self._began_s: dict[str, deque[float]] = {}
        self._lingering: dict[str, Handle] = {}
        self._active: dict[str, Alarm] = {}
        self._unsent: deque[OutRecord] = deque(maxlen=10_000)
        self._unsaved: dict[str, Alarm] = {}
        self._urgent = False
        self._work = Background(self._settle, "alarms")
        self.on_change: list[Callable[[Alarm], None]] = []

    async def load(self) -> None:
        """Read what stood when the agent ended. Alarms raised before this are kept."""
        for alarm in await self._store.load_alarms():
            self._active.setdefault(alarm.key, alarm)

    def raise_alarm(self, source: str, code: str, severity: Severity, message: str) -> Alarm:
        """Begin an episode, or count one more in it. A worse severity is told again.

        Never refused: how many an APP may have is the eSDK's affair, and the gateway's own are as many as its things.
        """
        key = f"{source}/{code}"
        known = self._active.get(key)
        if (lingering := self._lingering.pop(key, None)) is not None:
            lingering.cancel()
        if known is not None:
            worse = _RANK[severity] < _RANK[known.severity]
            alarm = replace(known, count=known.count + 1, message=message[:MAX_MESSAGE])
            if worse:
                alarm = replace(alarm, severity=severity)
            self._put(alarm, "raise" if worse else None)
            return alarm
        alarm = Alarm(source, code, severity, message[:MAX_MESSAGE], raised_ms=self._clock.now_ms())
        self._note_episode(key)
        self._put(alarm, "raise")
        return alarm

    def clear_alarm(self, source: str, code: str) -> Alarm | None:
        """End an episode; None when there is none, or when it is flapping and stands a little longer."""
        key = f"{source}/{code}"
        known = self._active.get(key)
        if known is None or key in self._lingering:
            return None
        if self._flaps(key):
            self._lingering[key] = self._timers.call_later(FLAP_QUIET_S, partial(self._end_quiet, key))
            return None
        return self._end(key)

    def _end_quiet(self, key: str) -> None:
        self._end(key)

    def _end(self, key: str) -> Alarm:
        self._lingering.pop(key, None)
        known = self._active[key]
        alarm = replace(known, cleared_ms=max(self._clock.now_ms(), 1))
        self._put(alarm, "clear")
        return alarm

    def clear_source(self, source: str) -> None:
        """End all episodes of a source that is no more."""
        for key in [each.key for each in self._active.values() if each.source == source]:
            if (lingering := self._lingering.pop(key, None)) is not None:
                lingering.cancel()
            self._end(key)

    def acknowledge(self, key: str) -> Alarm:
        """Somebody has seen it; it stays active. NotFound: no such alarm is active."""
        known = self._active.get(key)
        if known is None:
            raise NotFound("alarm.unknown", f"no active alarm '{key[:200]}'", hint="see `ecgw alarm list`")
        if known.acknowledged_ms:
            return known
        alarm = replace(known, acknowledged_ms=max(self._clock.now_ms(), 1))
        self._put(alarm, "acknowledge")
        return alarm

    def active(self) -> list[Alarm]:
        """What stands now, worst first, then oldest."""
        return sorted(self._active.values(), key=lambda alarm: (_RANK[alarm.severity], alarm.raised_ms, alarm.key))

    def is_active(self, source: str, code: str) -> bool:
        """True within an episode."""
        return f"{source}/{code}" in self._active

    async def settled(self) -> None:
        """Wait until every change so far is in the outbox and in the store."""
        await self._work.idle()

    async def close(self) -> None:
        """Stop; what is not saved stays unsaved."""
        await self._work.close()

    def _put(self, alarm: Alarm, state: str | None) -> None:
        if alarm.active:
            self._active[alarm.key] = alarm
        else:
            del self._active[alarm.key]
        self._unsaved[alarm.key] = alarm
        if state is not None:
            self._urgent = True
            self._unsent.append(OutRecord(Priority.CRITICAL, "event", _encode(alarm, state, self._clock.now_ms())))
            self._send()
            log.info("alarm_%s key=%s severity=%s count=%d", state, alarm.key, alarm.severity, alarm.count)
            for tell in self.on_change:
                tell(alarm)
        self._work.kick()

    def _note_episode(self, key: str) -> None:
        if len(self._began_s) > MAX_REMEMBERED:
            old_s = self._clock.monotonic() - FLAP_WINDOW_S
            self._began_s = {k: times for k, times in self._began_s.items() if times[-1] >= old_s}
        self._began_s.setdefault(key, deque(maxlen=FLAP_EPISODES)).append(self._clock.monotonic())

    def _flaps(self, key: str) -> bool:
        began_s = self._began_s.get(key)
        return (
            began_s is not None
            and len(began_s) == FLAP_EPISODES
            and self._clock.monotonic() - began_s[0] < FLAP_WINDOW_S
        )

    def _send(self) -> bool:
        """Hand over what waits. False: the outbox is full."""
        while self._unsent:
            try:
                self._sender.add_soon(self._unsent[0])
            except GatewayError:
                return False
            self._unsent.popleft()
        return True

    async def _settle(self) -> None:
        while self._unsaved or self._unsent:
            if not self._send():
                await asyncio.sleep(RETRY_S)
                continue
            changed, self._unsaved = self._unsaved, {}
            self._urgent = False
            try:
                await self._sender.flushed()
                for key, alarm in list(changed.items()):
                    await self._store.save_alarm(alarm)
                    del changed[key]
            except GatewayError:
                # The disk is full or failing: the newest state of each alarm is kept and tried again.
                self._unsaved = changed | self._unsaved
                await asyncio.sleep(RETRY_S)
            if self._unsaved and not self._urgent:
                await asyncio.sleep(COUNT_SAVE_S)  # only counts grew: once a second is enough


def _encode(alarm: Alarm, state: str, now_ms: int) -> bytes:
    return msgspec.json.encode(
        {
            "type": "alarm",
            "key": alarm.key,
            "code": alarm.code,
            "source": alarm.source,
            "severity": alarm.severity.value,
            "message": alarm.message,
            "state": state,
            "t": now_ms,
            "count": alarm.count,
        }
    )
