"""The host's side of an engine's networks in memory: bridges that somebody deletes, and containers that lost their port."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.domain.container import ContainerState, RunState
from agent.errors import Unreachable


class FakeBridges:
    """Every network has its bridge and who runs on it a port, but for what was taken away. `elsewhere`: nobody can see it.

    `unplugged`: nobody gets a port, however often a network is made. `looks` counts the questions to the host.
    """

    def __init__(self, containers: Callable[[], list[ContainerState]]) -> None:
        self._containers = containers
        self.elsewhere = False
        self.unplugged = False
        self.looks = 0
        self._gone: set[str] = set()
        self._cut: set[tuple[str, str, str]] = set()

    def lose(self, network: str) -> None:
        """What `ip link del` does."""
        self._gone.add(network)
        self._cut |= {(network, c.id, c.started_at) for c in self._on(network)}

    def make(self, network: str) -> None:
        """There is a bridge (again), and nobody new on it."""
        self._gone.discard(network)

    def free(self, container_id: str, networks: Iterable[str]) -> None:
        """The container is taken off these networks."""
        self._cut = {(n, i, began) for n, i, began in self._cut if i != container_id or n not in networks}

    def require(self, network: str) -> None:
        """Raise what the engine says where the bridge is not there."""
        if network in self._gone:
            raise Unreachable("engine.bridge_missing", f"could not find bridge {self.name(network)}")

    def name(self, network: str) -> str:
        """The interface of a network."""
        return f"br-{network}"

    def count(self, networks: Iterable[str]) -> dict[str, int] | None:
        """The ports of each bridge that is there."""
        self.looks += 1
        there = [network for network in networks if network not in self._gone]
        ports = {self.name(n): sum((n, c.id, c.started_at) not in self._cut for c in self._on(n)) for n in there}
        if self.unplugged:
            ports = dict.fromkeys(ports, 0)
        return None if self.elsewhere else ports

    def _on(self, network: str) -> list[ContainerState]:
        running = (RunState.RUNNING, RunState.PAUSED)
        return [c for c in self._containers() if c.state in running and network in (c.networks or ())]
