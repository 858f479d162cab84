"""Bridges that somebody deleted under their containers: neither the engine nor its events say so.

A look at the host is held against what was last seen of all instances; it costs one question to the kernel, however many
there are. Who is suspected is listed again and held against a second look: only what both say of the very same
containers is believed, so that nothing that is being started, stopped, made or removed is taken for a loss.

A network that is still cut after it was made anew is made anew again after growing pauses, since each time costs
connections.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping

from agent.domain.bridges import Users, find_cut, find_gone
from agent.domain.planner import Observed
from agent.domain.restart import Episode, RestartPolicy, record_illness
from agent.ports import Engine

log = logging.getLogger("agent.control.converge.bridges")

BRIDGE_MISSING = "engine.bridge_missing"
PAUSES = RestartPolicy(last_s=60.0)
IN_VAIN = 2
"""So many times a network was made anew and is cut again: that is said, once."""


class Bridges:
    """The suspicions. `in` tells whether an instance has to be looked at closely."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._suspects: dict[str, Mapping[str, Users]] = {}
        self._doubted: set[str] = set()
        self._mends: dict[str, Episode] = {}

    def __contains__(self, instance: str) -> bool:
        return instance in self._suspects or instance in self._doubted

    async def look(self, observed: Mapping[str, Observed]) -> list[str]:
        """The instances of which containers seem cut off."""
        ports = await self._engine.bridge_ports() if any(seen.networks for seen in observed.values()) else None
        if ports is None:
            return []
        found = {name: find_cut(seen.containers, seen.networks, ports) for name, seen in observed.items()}
        suspects = {name: {n: users for n, users in cut.items() if users} for name, cut in found.items()}
        found_cut = {name: cut for name, cut in suspects.items() if cut}
        self._suspects.update(found_cut)
        for name in observed.keys() - found_cut.keys():
            self._mends.pop(name, None)  # it has helped
        return [name for name in found_cut if not self._waits(name)]

    def choose(self, instance: str, cut: frozenset[str]) -> frozenset[str]:
        """Those of its networks `cut` that are to be made anew now: all, or none while it waits since that did not help."""
        return frozenset() if self._waits(instance) else cut

    def made_anew(self, instance: str, cut: frozenset[str]) -> None:
        """What was chosen is done; whether it has helped, the next look tells."""
        if not cut:
            return
        now = asyncio.get_running_loop().time()
        episode = record_illness(self._mends.get(instance, Episode()), PAUSES, now, random.random())
        self._mends[instance] = episode
        if episode.attempts == IN_VAIN + 1:
            log.error("network_is_cut_again_and_again instance=%s networks=%s", instance, ",".join(sorted(cut)))

    def _waits(self, instance: str) -> bool:
        """Not where the engine itself misses a bridge: then something else waits for it."""
        episode = self._mends.get(instance) if instance not in self._doubted else None
        return episode is not None and asyncio.get_running_loop().time() < episode.not_before

    def doubt(self, instance: str) -> None:
        """The engine itself says that it finds no bridge, maybe one of this instance's."""
        self._doubted.add(instance)

    def forget(self, instance: str) -> None:
        """The instance is gone."""
        self._suspects.pop(instance, None)
        self._doubted.discard(instance)
        self._mends.pop(instance, None)

    async def confirm(self, instance: str, seen: Observed) -> frozenset[str]:
        """The networks of an instance, listed after it was suspected, that are cut for certain."""
        ports = await self._engine.bridge_ports()
        if ports is None:
            return frozenset()
        before = self._suspects.pop(instance, {})
        now = find_cut(seen.containers, seen.networks, ports)
        gone = find_gone(seen.networks, ports)
        same = frozenset(name for name, users in now.items() if before.get(name) == users)
        cut = same | (gone if instance in self._doubted else frozenset())
        if not gone:
            self._doubted.discard(instance)
        if same:
            self._suspects[instance] = {name: now[name] for name in same}
        for name in sorted(cut):
            what = "bridge_is_gone" if name in gone else "containers_are_no_ports_of_its_bridge"
            log.warning("network_is_cut instance=%s network=%s reason=%s", instance, name, what)
        return cut
