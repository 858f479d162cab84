"""Makes the engine's containers what the ledger wants, one instance at a time, for ever.

An engine event or a decision marks an instance dirty; a dirty instance is listed, planned and changed. Everything is
listed at every (re)connect to the engine, and what is wanted is looked at every few minutes. Nothing else changes
containers, networks or volumes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from agent.control.catalog import Catalog
from agent.control.converge.bridges import BRIDGE_MISSING, Bridges
from agent.control.converge.comeback import Comeback
from agent.control.converge.looks import Looks
from agent.control.converge.place import Place
from agent.control.converge.retries import Retries
from agent.control.converge.steps import StepRunner
from agent.control.converge.supervisor import Supervisor
from agent.control.converge.trial import TrialRunner
from agent.control.ledger import Ledger
from agent.domain.app import Desired, Trial, Wanted
from agent.domain.command import Origin
from agent.domain.container import ContainerState
from agent.domain.journal import Change
from agent.domain.planner import Observed, plan
from agent.domain.steps import RemoveVolume, RestoreVolumes, Step
from agent.errors import GatewayError
from agent.ports import Engine, EngineEvent

log = logging.getLogger("agent.control.converge.reconciler")

Surveyor = Callable[[Sequence[ContainerState]], Awaitable[None]]

SWEEP_S = 300.0
LISTING = "*"
"""The name, which no instance has, of the task that lists everything again."""
AT_ONCE = 4
LIST_AGAIN_S = 1.0
LIST_LAST_S = 8.0
AFTER_A_BUG_S = 60.0
EVENTS_OF_INTEREST = frozenset(
    {"start", "die", "oom", "destroy", "pause", "unpause", "stop", "update", "rename", "connect", "disconnect"}
)
ECHOES = frozenset({"start", "update", "rename", "connect"})
"""What our own steps make the engine tell."""


class _UnfinishedError(Exception):
    """A pass that was overtaken by another decision, or is the first half of two: the next follows at once."""


class Reconciler:
    """One task per dirty instance; `observed` is what was last seen, `errors` what went wrong last; for people and reports."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        catalog: Catalog,
        steps: StepRunner,
        supervisor: Supervisor,
        trials: TrialRunner,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._catalog = catalog
        self._steps = steps
        self._supervisor = supervisor
        self._trials = trials
        self._bridges = Bridges(engine)
        self._looks = Looks(engine, supervisor, steps, self._bridges)
        self.observed = self._looks.observed
        self.errors: dict[str, GatewayError] = {}
        self.listed = False
        self._dirty: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._retries = Retries()
        self._stopped = False
        self._room = asyncio.Semaphore(AT_ONCE)
        self._watchers: list[Callable[[str], None]] = []
        self._surveyor: Surveyor | None = None
        self._comeback: Comeback | None = None
        ledger.listen(self._on_change)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Have `watcher(instance)` called whenever an instance was looked at anew."""
        self._watchers.append(watcher)

    def survey(self, surveyor: Surveyor) -> None:
        """Have `surveyor(containers)` awaited each time all containers were listed, before anything is done about them."""
        self._surveyor = surveyor

    def put_in_order(self, comeback: Comeback) -> None:
        """Put in order by `comeback` what came back by itself."""
        self._comeback = comeback

    async def run(self) -> None:
        """Follow the engine until cancelled."""
        self._stopped = False
        sweeper = asyncio.create_task(self._sweep(), name="reconciler-sweep")
        try:
            async for event in self._engine.events():
                if event is None:
                    await self._on_connect()
                elif event.action in EVENTS_OF_INTEREST or event.action.startswith("health_status"):
                    self._on_event(event)
        finally:
            # A decision that is still on its way to the disk tells us of itself later: that starts nothing any more.
            self._stopped = True
            sweeper.cancel()
            for timer in self._timers.values():
                timer.cancel()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(sweeper, *tasks, return_exceptions=True)

    async def watch_bridges(self, every_s: float) -> None:
        """No event tells of a bridge that is gone. Who is being worked on, or tried again, is looked at by that."""
        while True:
            await asyncio.sleep(every_s)
            rest = {n: seen for n, seen in self.observed.items() if n not in self._tasks and n not in self._retries}
            for name in await self._bridges.look(rest):
                self.touch(name)

    def touch(self, instance: str, delay_s: float = 0.0) -> None:
        """Mark an instance dirty, now or after `delay_s`."""
        if self._stopped:
            return
        pending = self._timers.pop(instance, None)
        if pending is not None:
            pending.cancel()
        if delay_s > 0:
            loop = asyncio.get_running_loop()
            self._timers[instance] = loop.call_later(delay_s, self.touch, instance)
            return
        self._dirty.add(instance)
        if instance not in self._tasks:
            self._tasks[instance] = asyncio.create_task(self._converge(instance), name=f"converge-{instance}")

    def endings(self, observed: Observed) -> dict[str, str]:
        """Why services last ended, in words."""
        return self._supervisor.endings(observed.containers)

    async def remove_volume(self, instance: str, name: str) -> None:
        """Remove a volume whose instance is gone; the caller has made sure of that."""
        await self._steps.run(instance, [RemoveVolume(name)], still=lambda: instance not in self._ledger.desired)

    def _on_change(self, change: Change) -> None:
        for desired in change.desired:
            self.touch(desired.name)

    def _on_event(self, event: EngineEvent) -> None:
        self._supervisor.see(event)
        if event.instance in self._tasks and event.action in ECHOES:
            return  # our own step's echo: the task lists again by itself before it ends
        if event.instance in self._timers and event.instance in self._retries:
            return  # most likely what a step that failed left behind; the next try looks at everything anyway
        self.touch(event.instance)

    async def _on_connect(self) -> None:
        self.listed = True
        if self._comeback is not None:
            self._comeback.reconnect()
        if pending := self._timers.pop(LISTING, None):
            pending.cancel()
        if not await self._list():
            self._touch_all(())
            self._list_again(LIST_AGAIN_S)

    async def _list(self) -> bool:
        """List everything and mark it dirty. False when the engine did not tell."""
        try:
            containers = await self._engine.containers()
            if self._surveyor is not None:
                await self._surveyor(containers)
        except GatewayError as error:
            log.warning("engine_list_failed code=%s reason=%s", error.code, error)
            return False
        self._touch_all(c.instance for c in containers)
        return True

    def _touch_all(self, found: Iterable[str]) -> None:
        for name in {*found, *self._ledger.desired, *self._steps.with_copies()}:
            self.touch(name)

    def _list_again(self, wait_s: float) -> None:
        """Leftovers are found by listing alone: keep trying, also while the engine stays connected."""
        loop = asyncio.get_running_loop()

        def begin() -> None:
            del self._timers[LISTING]
            self._tasks[LISTING] = asyncio.create_task(self._listed_again(wait_s), name="reconciler-list")

        self._timers[LISTING] = loop.call_later(wait_s, begin)

    async def _listed_again(self, wait_s: float) -> None:
        try:
            if not await self._list() and LISTING not in self._timers:
                self._list_again(min(LIST_LAST_S, 2 * wait_s))
        finally:
            self._tasks.pop(LISTING, None)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for name in list(self._ledger.desired):
                self.touch(name)

    async def _converge(self, instance: str) -> None:
        try:
            while instance in self._dirty:
                self._dirty.discard(instance)
                wake_s = await self._attempt(instance)
                if wake_s is not None and instance not in self._dirty:
                    self._tasks.pop(instance, None)
                    self.touch(instance, max(wake_s, 0.05))
                    return
        finally:
            self._tasks.pop(instance, None)

    async def _attempt(self, instance: str) -> float | None:
        """One pass with its back-off: seconds until the next look, or None when an event will tell."""
        desired = self._ledger.desired.get(instance)
        try:
            async with Place(self._room) as place:
                wake_s = await self._once(instance, desired, place)
            self._get_through(instance)
            if desired is not None and desired.on_trial and instance not in self._dirty:
                if not await self._trials.verify(desired, self._observe, self._is_cut):
                    self._dirty.add(instance)
                self._supervisor.end_trial(instance)
            return wake_s
        except _UnfinishedError:
            self._dirty.add(instance)
            return None
        except GatewayError as error:
            return await self._failed(instance, desired, error)
        except Exception:
            log.exception("reconcile_failed instance=%s", instance)
            return AFTER_A_BUG_S
        finally:
            self._tell(instance)

    def _get_through(self, instance: str) -> None:
        """Its steps are done: whatever was in the way is not any more, and may not be in that of others."""
        for other in self._retries.succeed(instance):
            self.touch(other)
        if self.errors.pop(instance, None) is not None:
            self._tell(instance)

    def _tell(self, instance: str) -> None:
        for watcher in self._watchers:
            watcher(instance)

    async def _failed(self, instance: str, tried: Desired | None, error: GatewayError) -> float:
        self.errors[instance] = error
        if error.code == BRIDGE_MISSING:
            self._bridges.doubt(instance)
        desired = self._ledger.desired.get(instance)
        if desired is not None and desired.current is not None and self._catalog.find(desired) is None:
            await self._settle(instance)  # what nobody can read runs on as it is: there is no order to put it in
        count = self._retries.fail(instance, _goal(tried), error.code)
        if desired is not None and _goal(desired) == _goal(tried):  # else it says nothing about what is wanted now
            try:
                await self._trials.judge(desired, error, attempts=count)
            except GatewayError as trouble:
                # A full disk: the next try, which fails as this one did, brings the verdict again.
                log.warning("verdict_not_written instance=%s code=%s reason=%s", instance, trouble.code, trouble)
        if desired is not None and desired.on_trial:
            self._supervisor.end_trial(instance)
        if _goal(self._ledger.desired.get(instance)) == _goal(tried):
            # What events say meanwhile is mostly the echo of the step that failed: it does not cut the wait short.
            self._dirty.discard(instance)
        return self._retries.wait_s(instance)

    async def _observe(self, instance: str) -> Observed:
        seen = await self._looks.look(instance)
        if self._comeback is not None:
            self._comeback.note(instance, seen.containers)
        return seen

    async def _is_cut(self, instance: str) -> bool:
        """Whether a network of its own joins nobody: looked at, listed anew and looked at again."""
        await self._bridges.look({instance: self.observed[instance]})
        self._bridges.doubt(instance)
        return bool((await self._observe(instance)).cut)

    async def _once(self, instance: str, desired: Desired | None, place: Place) -> float | None:
        """Bring the instance one plan closer to `desired`, which was the decision when the pass began."""
        if self._ledger.unsure:
            return None  # everything is looked at once the engine was listed
        leaving = desired is not None and desired.wanted in (Wanted.ABSENT, Wanted.PURGED)
        if desired is not None and desired.current is None and not leaving:
            return None  # its job has not brought a version yet, and would wait for our questions to the engine
        if desired is None:
            await self._remove_orphans(instance, await self._observe(instance))
            return None
        if leaving:
            return await self._remove(desired, await self._observe(instance), place)
        if desired.wanted is Wanted.STOPPED and self._catalog.find(desired) is None:
            await self._stop_unread(desired, await self._observe(instance), place)
            return None
        observed, _ = await asyncio.gather(self._observe(instance), self._catalog.prepare(desired))
        spec = self._catalog.spec(desired)
        if desired.trial is Trial.VERIFYING or desired.wanted is Wanted.STOPPED:
            self._supervisor.forget(instance)
        else:
            self._supervisor.adopt(instance, spec, observed.containers)
        cut = self._bridges.choose(instance, observed.cut)
        observed = replace(observed, looping=self._supervisor.looping(instance), cut=cut)
        own = {each.spec_hash for each in spec.containers}
        replaced = any(each.spec not in own for each in observed.containers)
        before = self._catalog.known(instance, desired.previous) if replaced or desired.on_trial else None
        steps = list(plan(desired, spec, observed, before))
        wake_s: float | None = None
        restores = any(isinstance(step, RestoreVolumes) for step in steps)
        if desired.trial is not Trial.VERIFYING and desired.wanted is Wanted.RUNNING and not restores:
            mends = (
                self._comeback.steps(spec, observed.containers, observed.looping) if self._comeback is not None else ()
            )
            again, wake_s = ([], None) if mends else self._supervisor.steps(spec, observed.containers)
            steps += (*mends, *again)
        if steps:
            await self._carry_out(desired, steps, place)
            self._bridges.made_anew(instance, cut)
        await self._settle(instance)
        if restores:
            await self._trials.mark_restored(desired)
            raise _UnfinishedError
        if not desired.on_trial:
            await self._trials.conclude(desired)
        return wake_s

    async def _stop_unread(self, desired: Desired, observed: Observed, place: Place) -> None:
        """Stop what this agent cannot read any more, with what is known of the version before; data go back first."""
        steps = plan(desired, None, observed, self._catalog.known(desired.name, desired.previous))
        await self._carry_out(desired, steps, place)
        await self._settle(desired.name)
        self._supervisor.forget(desired.name)
        if any(isinstance(step, RestoreVolumes) for step in steps):
            await self._trials.mark_restored(desired)
            raise _UnfinishedError
        await self._trials.conclude(desired)

    async def _settle(self, instance: str) -> None:
        if self._comeback is not None:
            await self._comeback.settled(instance)

    async def _carry_out(self, desired: Desired, steps: Sequence[Step], place: Place) -> None:
        """Run the steps and look what came of them. _UnfinishedError: another decision has overtaken `desired`."""
        still = partial(self._is_still, desired)
        complete = await self._steps.run(desired.name, steps, still=still, aside=place.aside)
        await self._observe(desired.name)
        if not complete:
            raise _UnfinishedError

    def _is_still(self, desired: Desired) -> bool:
        return self._ledger.desired.get(desired.name) == desired

    async def _remove(self, desired: Desired, observed: Observed, place: Place) -> float | None:
        spec, before = (self._catalog.known(desired.name, each) for each in (desired.current, desired.previous))
        steps = plan(desired, spec, observed, before)
        still = partial(self._is_still, desired)
        if not await self._steps.run(desired.name, steps, still=still, aside=place.aside):
            # It stays after all: what still runs has the door's folder mounted, and a new one would not reach it.
            raise _UnfinishedError
        self._supervisor.forget(desired.name)
        if self._comeback is not None:
            await self._comeback.forget(desired.name)
        await self._catalog.dismantle(desired)
        await self._trials.forget(desired)
        self.observed.pop(desired.name, None)
        self.errors.pop(desired.name, None)
        self._bridges.forget(desired.name)
        return None

    async def _remove_orphans(self, instance: str, observed: Observed) -> None:
        """Containers and copies of ours that no desired state knows: left by a kill in the middle of a removal."""
        self.observed.pop(instance, None)
        self._bridges.forget(instance)
        if not (observed.containers or observed.snapshots) or not self._ledger.may_remove(instance):
            return
        ghost = Desired(instance, owner=Origin.LOCAL, wanted=Wanted.ABSENT)
        await self._steps.run(instance, plan(ghost, None, observed), still=lambda: True)


def _goal(desired: Desired | None) -> Desired | None:
    """What is wanted, without how often it was watched."""
    return None if desired is None else replace(desired, windows=0)
