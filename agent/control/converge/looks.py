"""What the engine is seen to have of an instance: listed, and held against what was seen of it before."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from agent.control.converge.bridges import Bridges
from agent.control.converge.steps import StepRunner
from agent.control.converge.supervisor import Supervisor
from agent.domain.planner import Observed, learn
from agent.ports import Engine

log = logging.getLogger("agent.control.converge.looks")


class Looks:
    """`observed` is what was last seen of each instance."""

    def __init__(self, engine: Engine, supervisor: Supervisor, steps: StepRunner, bridges: Bridges) -> None:
        self._engine = engine
        self._supervisor = supervisor
        self._steps = steps
        self._bridges = bridges
        self.observed: dict[str, Observed] = {}
        self._given: frozenset[str] = frozenset()

    async def look(self, instance: str) -> Observed:
        """List the instance anew."""
        containers, networks, volumes = await asyncio.gather(
            self._engine.containers(instance), self._engine.networks(instance), self._engine.volumes(instance)
        )
        seen = Observed(
            tuple(containers),
            tuple(networks),
            tuple(volumes),
            self._supervisor.looping(instance),
            self._steps.copies(instance),
        )
        if instance in self._bridges:
            seen = replace(seen, cut=await self._bridges.confirm(instance, seen))
        if new := learn(self.observed.get(instance), seen) - self._given:
            self._given |= new
            log.warning("limits_are_what_this_engine_gives instance=%s limits=%s", instance, ",".join(sorted(new)))
        self.observed[instance] = seen = replace(seen, given=self._given)
        return seen
