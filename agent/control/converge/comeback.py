"""What came back by itself after a boot or a restart of the engine, and is to be put in order once.

A boot is told by its id, kept in the state: an agent that is killed half-way looks again, and finds in order what it
had put in order. An engine that came back without keeping its containers is told by all services of an instance having
started anew at about the time at which the engine was found again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from agent.control.ledger import Ledger
from agent.domain.bootorder import mend_order
from agent.domain.container import ContainerState
from agent.domain.instantiate import AppSpec
from agent.domain.journal import Change
from agent.domain.steps import Step
from agent.errors import GatewayError
from agent.ports import Clock

log = logging.getLogger("agent.control.converge.comeback")

BOOT_ID = "boot_id"
AROUND_S = 60.0


class Comeback:
    """Which instances are to be looked at, and since when their containers run."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._boot_id = ""
        self._booted: set[str] = set()
        self._returned: dict[str, float] = {}
        self._seen: dict[str, dict[str, tuple[str, float]]] = {}
        self._connected = False

    async def begin(self, boot_id: str) -> None:
        """The state is loaded: whether this is another boot than the one it was last used in."""
        known = self._ledger.meta.get(BOOT_ID, "")
        self._boot_id = boot_id
        if not boot_id or known == boot_id:
            return
        if known:
            self._booted = {name for name, desired in self._ledger.desired.items() if desired.current is not None}
        await self._remember()

    def reconnect(self) -> None:
        """The engine is there (again)."""
        if self._connected:
            now = self._clock.monotonic()
            self._returned = dict.fromkeys(self._ledger.desired, now)
        self._connected = True

    def note(self, instance: str, containers: Sequence[ContainerState]) -> None:
        """A look at the instance: when each of its containers was seen to begin another run; long ago at the first look."""
        now = self._clock.monotonic()
        before = self._seen.get(instance, {})
        runs = {c.id: before.get(c.id, (c.started_at, float("-inf"))) for c in containers}
        self._seen[instance] = {
            c.id: runs[c.id] if runs[c.id][0] == c.started_at else (c.started_at, now) for c in containers
        }

    def steps(self, spec: AppSpec, containers: Sequence[ContainerState], looping: frozenset[str]) -> tuple[Step, ...]:
        """What puts the instance in order, where it came back and was not looked at since."""
        instance = spec.instance
        serving = [c for c in containers if c.serving]
        if instance in self._booted:
            return mend_order(spec, containers, frozenset(c.id for c in serving), looping)
        since = self._returned.get(instance)
        if since is None or not serving:
            return ()
        seen = self._seen.get(instance, {})
        if any(seen.get(c.id, ("", float("-inf")))[1] < since - AROUND_S for c in serving):
            return ()  # one has run on: the engine kept its containers, and each crash is its own affair
        return mend_order(spec, containers, frozenset(c.id for c in serving), looping)

    async def settled(self, instance: str) -> None:
        """The instance is in order, or stopped, on trial or gone. After the last one the boot is done with."""
        self._returned.pop(instance, None)
        self._booted.discard(instance)
        await self._remember()

    async def forget(self, instance: str) -> None:
        """The instance is gone."""
        self._seen.pop(instance, None)
        await self.settled(instance)

    async def _remember(self) -> None:
        """Once all is in order. Refused by a full disk, it is written with the next instance that is found so."""
        if self._booted or self._boot_id in ("", self._ledger.meta.get(BOOT_ID)):
            return
        boot = Change(meta=((BOOT_ID, self._boot_id),))
        try:
            await asyncio.shield(self._ledger.decide(lambda: boot))
        except GatewayError as error:
            log.warning("boot_not_remembered code=%s reason=%s", error.code, error)
