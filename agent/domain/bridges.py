"""Whether an APP's networks still join those who are on them: what the engine says against what the host has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.domain.container import ContainerState, NetworkSpec, RunState

Users = frozenset[tuple[str, str]]
"""Containers that run, each as (id, when it was started)."""
Ports = Mapping[str, int]
"""How many ports each interface of the host has."""

_JOINED = (RunState.RUNNING, RunState.PAUSED)


def find_cut(containers: Iterable[ContainerState], networks: Iterable[NetworkSpec], ports: Ports) -> dict[str, Users]:
    """The networks that do not join their containers, each with those that it should join.

    Its bridge is gone, or has fewer ports than containers that run on it: an engine that makes a lost bridge anew leaves
    what runs without. More ports than ours are somebody else's affair.
    """
    running = [c for c in containers if c.state in _JOINED]
    users = {n: frozenset((c.id, c.started_at) for c in running if n.name in (c.networks or ())) for n in networks}
    return {n.name: found for n, found in users.items() if n.bridge and ports.get(n.bridge, -1) < len(found)}


def find_gone(networks: Iterable[NetworkSpec], ports: Ports) -> frozenset[str]:
    """The networks whose bridge is not there at all."""
    return frozenset(n.name for n in networks if n.bridge and n.bridge not in ports)
