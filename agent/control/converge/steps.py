"""Carries out the planner's steps, each journaled before and after: one table from step to engine call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from agent.control.ledger import Journal
from agent.domain import steps as kinds
from agent.domain.container import ContainerState, Health, Restart, RunState
from agent.errors import Failed, GatewayError, NotFound, TimedOut
from agent.ports import Clock, Engine, Snapshots

log = logging.getLogger("agent.control.converge.steps")

POLL_S = 0.25

Aside = Callable[[], AbstractAsyncContextManager[None]]
PATIENT = (kinds.AwaitService, kinds.StopContainer)
"""Steps that do little and may take minutes: a service that never gets healthy, one that ignores its signal."""


@dataclass(slots=True)
class _Run:
    """One plan under way, as long as `still()` holds. `made`: ids of the containers it created, by service and spec."""

    instance: str
    still: Callable[[], bool]
    made: dict[tuple[str, str], str] = field(default_factory=dict)


class StepRunner:
    """The only caller of the engine's changing methods. `on_stop` hears of every container whose next death is our doing.

    `guard` is asked before anything of an instance is made or started: it raises where admission would no longer hold.
    """

    def __init__(
        self,
        engine: Engine,
        snapshots: Snapshots,
        journal: Journal,
        clock: Clock,
        on_stop: Callable[[str], None],
        guard: Callable[[str], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._snapshots = snapshots
        self._journal = journal
        self._clock = clock
        self._on_stop = on_stop
        self._guard = guard
        self._on_loss: Callable[[str, str], None] = lambda _, __: None
        self._table: dict[type, Callable[[_Run, Any], Awaitable[object]]] = {
            kinds.CreateNetwork: lambda _, s: engine.create_network(s.network),
            kinds.RemoveNetwork: lambda _, s: engine.remove_network(s.name),
            kinds.CreateVolume: self._create_volume,
            kinds.RemoveVolume: lambda _, s: engine.remove_volume(s.name),
            kinds.CreateContainer: self._create,
            kinds.StartContainer: self._start,
            kinds.AwaitService: self._await_service,
            kinds.StopContainer: self._stop,
            kinds.RemoveContainer: lambda _, s: engine.remove(s.container_id),
            kinds.UpdateContainer: lambda _, s: engine.update(s.container_id, s.live),
            kinds.RenameContainer: self._rename,
            kinds.ConnectContainer: lambda _, s: engine.connect(s.container_id, s.networks),
            kinds.DisconnectContainer: lambda _, s: engine.disconnect(s.container_id, s.networks),
            kinds.ReserveSnapshots: self._reserve,
            kinds.SnapshotVolumes: self._take,
            kinds.RestoreVolumes: self._restore,
            kinds.DropSnapshots: self._drop,
        }

    def tell_losses(self, on_loss: Callable[[str, str], None]) -> None:
        """Have `on_loss(instance, volume)` called before a volume that was lost is made again."""
        self._on_loss = on_loss

    async def run(
        self,
        instance: str,
        steps: Sequence[kinds.Step],
        *,
        still: Callable[[], bool],
        aside: Aside = nullcontext,
    ) -> bool:
        """Run `steps` in order while `still()` holds; True when all ran. The first failure ends it and is raised.

        Those that only wait are run inside `aside()`.
        """
        run = _Run(instance, still)
        number: int | None = None
        complete = True
        for step in steps:
            complete = still()
            if not complete:
                break
            number = await self._begin(instance, step, after=number)
            try:
                async with aside() if isinstance(step, PATIENT) else nullcontext():
                    await self._table[type(step)](run, step)
            except GatewayError as error:
                await self._journal.end_step(number, f"{error.code}: {error.message}")
                log.warning("step_failed instance=%s step=%r code=%s reason=%s", instance, str(step), error.code, error)
                raise
        await self._end(number)
        return complete

    def copies(self, instance: str) -> frozenset[tuple[str, str]]:
        """The copies of an instance's volumes, each as (key, volume)."""
        return self._snapshots.held(instance)

    def with_copies(self) -> frozenset[str]:
        """The instances of which there are copies."""
        return self._snapshots.instances()

    async def _begin(self, instance: str, step: kinds.Step, *, after: int | None) -> int:
        """Write that a step begins and, in the same commit, that the one before it is done."""
        begun = self._journal.begin_step(instance, str(step), self._clock.now_ms())
        _, number = await asyncio.gather(self._end(after), begun)
        return number

    async def _end(self, number: int | None) -> None:
        if number is not None:
            await self._journal.end_step(number, "done")

    async def _create_volume(self, run: _Run, step: kinds.CreateVolume) -> None:
        if step.lost:
            self._on_loss(run.instance, step.volume.name)
        await self._engine.create_volume(step.volume)

    async def _create(self, run: _Run, step: kinds.CreateContainer) -> None:
        await self._guard(run.instance)
        run.made[step.container.service, step.container.spec_hash] = await self._engine.create(step.container)

    async def _start(self, run: _Run, step: kinds.StartContainer) -> None:
        # A link on the way of a bind may have been turned elsewhere since the container was made.
        await self._guard(run.instance)
        made = run.made.get((step.service, step.spec))
        container_id = made or (await self._find(run.instance, step.service, step.spec)).id
        # A start that fails ends with the death of what never ran: that is no crash. One that does not takes this back.
        self._on_stop(container_id)
        await self._engine.start(container_id)

    async def _stop(self, _: _Run, step: kinds.StopContainer) -> None:
        self._on_stop(step.container_id)
        await self._engine.stop(step.container_id, step.grace_s)

    async def _rename(self, run: _Run, step: kinds.RenameContainer) -> None:
        """Somebody else's container may have the name: this one runs on as it is called, and it is tried again."""
        try:
            await self._engine.rename(step.container_id, step.name)
        except GatewayError as error:
            log.warning("not_renamed instance=%s name=%s code=%s reason=%s", run.instance, step.name, error.code, error)

    async def _reserve(self, run: _Run, step: kinds.ReserveSnapshots) -> None:
        await self._snapshots.reserve(run.instance, step.key, await self._folders(step.volumes))

    async def _take(self, run: _Run, step: kinds.SnapshotVolumes) -> None:
        await self._snapshots.take(run.instance, step.key, await self._folders(step.volumes))

    async def _restore(self, run: _Run, step: kinds.RestoreVolumes) -> None:
        """Each by itself: one whose copy or volume somebody took away keeps nothing else from coming back."""
        for volume in step.volumes:
            try:
                await self._snapshots.restore(run.instance, step.key, await self._folders((volume,)))
            except NotFound as error:
                log.error("volume_not_restored instance=%s volume=%s reason=%s", run.instance, volume, error)  # noqa: TRY400

    async def _drop(self, run: _Run, step: kinds.DropSnapshots) -> None:
        """What cannot be forgotten yet only takes room: it keeps no job open, and is tried again with the next plan."""
        try:
            await self._snapshots.drop(run.instance, step.key)
        except GatewayError as error:
            log.warning("copies_not_dropped instance=%s code=%s reason=%s", run.instance, error.code, error)

    async def _folders(self, volumes: Sequence[str]) -> dict[str, str]:
        return {volume: await self._engine.volume_folder(volume) for volume in volumes}

    async def _find(self, instance: str, service: str, spec: str) -> ContainerState:
        for container in await self._engine.containers(instance):
            if container.service == service and container.spec == spec:
                return container
        raise NotFound("engine.container_gone", f"{instance}: the container of {service} vanished before its start")

    async def _await_service(self, run: _Run, step: kinds.AwaitService) -> None:
        """Return when others may start, or when another decision made that pointless.

        A healthcheck has a deadline of its own: while it is starting, ours does not count.
        """
        instance = run.instance
        deadline = self._clock.monotonic() + step.within_s
        while run.still():
            container = await self._find(instance, step.service, step.spec)
            _check_hope(instance, step, container)
            if _holds(step.condition, container):
                return
            starting = step.condition == "healthy" and container.health is Health.STARTING
            if not starting and self._clock.monotonic() >= deadline:
                words = f"{instance}: {step.service} is not {step.condition} after {step.within_s:g} s"
                raise TimedOut("app.dependency_late", words)
            await asyncio.sleep(POLL_S)


def _check_hope(instance: str, step: kinds.AwaitService, container: ContainerState) -> None:
    """Failed when what is awaited will not come."""
    if container.health is Health.UNHEALTHY:
        raise Failed("app.dependency_unhealthy", f"{instance}: {step.service} is unhealthy; others wait for it")
    unasked = container.state is RunState.RUNNING and container.health is Health.NONE
    if step.condition == "healthy" and unasked:
        raise Failed(
            "app.no_healthcheck",
            f"{instance}: {step.service} has no healthcheck; others wait for it to be healthy",
            hint=f"give {step.service} a healthcheck, or let them wait for service_started",
        )
    gave_up = container.state is RunState.EXITED and container.live.restart is Restart.NO
    if step.condition == "completed" and gave_up and not container.ended_well:
        words = f"{instance}: {step.service} ended with exit code {container.exit_code}"
        raise Failed("app.dependency_failed", f"{words}; others wait for it to succeed")


def _holds(condition: str, container: ContainerState) -> bool:
    """Whether what others wait for is so; what shall end and has ended well was started too."""
    if container.ended_well:
        return condition != "healthy"
    running = container.state is RunState.RUNNING and condition != "completed"
    return running and (condition != "healthy" or container.health is Health.HEALTHY)
