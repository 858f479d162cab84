"""Bridges that somebody deleted under their containers: neither the engine nor its events say so.

A look at the host is held against what was last seen of all instances; it costs one question to the kernel, however many
there are. Who is suspected is listed again and held against a second look: only what both say of the very same
containers is believed, so that nothing that is being started, stopped, made or removed is taken for a loss.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from agent.domain.bridges import Users, find_cut, find_gone
from agent.domain.planner import Observed
from agent.ports import Engine

log = logging.getLogger("agent.control.converge.bridges")

BRIDGE_MISSING = "engine.bridge_missing"


class Bridges:
    """The suspicions. `in` tells whether an instance has to be looked at closely."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._suspects: dict[str, Mapping[str, Users]] = {}
        self._doubted: set[str] = set()

    def __contains__(self, instance: str) -> bool:
        return instance in self._suspects or instance in self._doubted

    async def look(self, observed: Mapping[str, Observed]) -> list[str]:
        """The instances of which containers seem cut off."""
        ports = await self._engine.bridge_ports() if any(seen.networks for seen in observed.values()) else None
        if ports is None:
            return []
        found = {name: find_cut(seen.containers, seen.networks, ports) for name, seen in observed.items()}
        suspects = {name: {n: users for n, users in cut.items() if users} for name, cut in found.items()}
        self._suspects.update({name: cut for name, cut in suspects.items() if cut})
        return [name for name, cut in suspects.items() if cut]

    def doubt(self, instance: str) -> None:
        """The engine itself says that it finds no bridge, maybe one of this instance's."""
        self._doubted.add(instance)

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
