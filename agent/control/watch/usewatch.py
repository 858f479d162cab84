"""Acts on what instances use: alarms, kills for memory that no event told of, a full disk, heartbeats that stay away."""

from __future__ import annotations

from dataclasses import replace

from agent.control.catalog import Catalog
from agent.control.converge.reconciler import Reconciler
from agent.control.converge.supervisor import Heartbeats, Supervisor
from agent.control.converge.trial import fail_trial
from agent.control.ledger import Ledger
from agent.control.watch.usealarms import UseAlarms, disk_words
from agent.domain.app import Trial, Wanted
from agent.domain.command import JobState
from agent.domain.container import ContainerState
from agent.domain.journal import Change
from agent.domain.transition import PAST_FETCHING, REASON
from agent.domain.usage import DiskUse, Rates, Usage
from agent.errors import GatewayError
from agent.ports import Host

MACHINE_EVERY_S = 15.0
NEAR = 0.8


class UseWatch:
    """`control.metering.Watch`. Stopping an instance is a decision of the ledger's, as any other."""

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        reconciler: Reconciler,
        supervisor: Supervisor,
        alarms: UseAlarms,
        outside: tuple[Host, Heartbeats],
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._reconciler = reconciler
        self._supervisor = supervisor
        self._alarms = alarms
        self._host, self._heartbeats = outside
        self._machine_at = float("-inf")

    def see_service(self, container: ContainerState, usage: Usage, rates: Rates, now: float) -> None:
        """Lines that are crossed, and kills that the engine's events did not tell."""
        self._alarms.see_service(container, usage, rates, now)
        kills = usage.oom_kills
        if kills is not None and self._supervisor.kills.note_counter(container, kills, now):
            self._reconciler.touch(container.instance)

    def stage(self, instance: str) -> object:
        """The decision that holds for it."""
        return self._ledger.desired.get(instance)

    async def see_disk(self, instance: str, used: DiskUse, stage: object, now: float) -> bool:
        """Stop what is past its limit. It stays stopped until somebody starts it, and is counted again then.

        A version that came past it on its trial goes back where there is another; its release is not blamed. A count that a
        decision has overtaken says nothing: what it found may be gone with the version that wrote it.
        """
        limit = self.disk_limit(instance)
        if not limit:
            return False
        if self.stage(instance) != stage:
            return True
        was_past = self._alarms.is_past_limit(instance)
        if self._alarms.see_disk(instance, used, limit, now):
            await self._ledger.decide(lambda: self._hold(instance, disk_words(used, limit), was_past=was_past))
        return used.total_bytes > NEAR * limit

    def disk_limit(self, instance: str) -> int:
        """The instance's limit in bytes, 0 for none."""
        desired = self._ledger.desired.get(instance)
        if desired is None or desired.current is None:
            return 0
        try:
            return self._catalog.spec(desired).disk_bytes
        except GatewayError:
            return 0

    def keep(self, instance: str, running: frozenset[str]) -> None:
        """Only these services of it run."""
        self._alarms.keep(instance, running)

    def forget(self, instance: str) -> None:
        """It is gone."""
        self._alarms.forget(instance)

    async def each_round(self, now: float) -> None:
        """What is not any one container's: promised heartbeats, and the machine itself."""
        for instance in list(self._reconciler.observed):
            if self._heartbeats.late(instance):
                self._reconciler.touch(instance)
        if now - self._machine_at >= MACHINE_EVERY_S:
            self._machine_at = now
            self._alarms.see_machine(await self._host.usage(), now)

    def _hold(self, instance: str, why: str, *, was_past: bool) -> Change:
        desired = self._ledger.desired.get(instance)
        if desired is None or desired.wanted is not Wanted.RUNNING:
            return Change()
        job = self._ledger.open_job(instance)
        if desired.restore or (job is not None and REASON in job.params):
            return Change()  # what takes the room is going: it is counted again when that is done
        # What was past it before the trial is no doing of the version on trial, which may be the one that mends it.
        if desired.trial is Trial.VERIFYING and desired.previous is not None and not was_past:
            spec = self._catalog.spec(desired)
            if spec.update.automatic_rollback:
                return fail_trial(self._ledger, desired, job, spec, f"past its limit: {why}", blame=False)
        held = replace(desired, wanted=Wanted.STOPPED, hold=why)
        if job is None or job.state not in PAST_FETCHING:
            return Change(desired=(held,))
        failed = replace(job, state=JobState.FAILED, message=why)
        return Change(desired=(replace(held, job=""),), jobs=(failed,))
