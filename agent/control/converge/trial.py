"""A new version on trial: the health gate is watched, its verdict written, and finished jobs are closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from agent.control.catalog import Catalog
from agent.control.ledger import Ledger
from agent.domain import transition
from agent.domain.app import Desired
from agent.domain.command import Job, JobState
from agent.domain.container import ContainerState, RunState
from agent.domain.gate import Gate, Verdict, observe
from agent.domain.instantiate import AppSpec
from agent.domain.journal import Change
from agent.domain.manifest_model import Probe
from agent.domain.planner import Observed
from agent.domain.retention import forgettable
from agent.errors import GatewayError
from agent.ports import Clock

log = logging.getLogger("agent.control.converge.trial")

LOOK_S = 0.5
GIVE_UP_AFTER = 40
"""Tries in a row, of a trouble that may pass: about six minutes (`agent.control.converge.retries`)."""

OWN_FAULTS = frozenset(
    {"engine.cannot_execute", "app.dependency_unhealthy", "app.dependency_failed", "app.dependency_late"}
)
"""What a step can fail of that is the release's own doing: it has failed its gate as if that had said so."""

IMAGE_GONE = "image.not_found"

NO_COPIES = "snapshot."
"""Beginning of the codes that say that data could not be kept to go back to: trying again leaves the APP standing."""


class Prober(Protocol):
    """Asks a container's port from inside its network namespace."""

    async def ask(self, container: ContainerState, probe: Probe) -> str | None:
        """None when content, else what is wrong in words."""
        ...


class TrialRunner:
    """The gate's loop and the decisions that end a deployment."""

    def __init__(self, ledger: Ledger, catalog: Catalog, clock: Clock, prober: Prober) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._clock = clock
        self._prober = prober
        self._told: dict[str, tuple[str, str, str]] = {}
        """What was told last of each instance's trouble: its job, the error's code, and the job's words since."""

    async def verify(
        self, desired: Desired, look: Callable[[str], Awaitable[Observed]], is_cut: Callable[[str], Awaitable[bool]]
    ) -> bool:
        """Watch the gate until it speaks or the decision is overtaken by another.

        False: somebody took away what is watched, or (`is_cut`) the network it needs. That is not the release's doing:
        it is to be made and watched anew.
        """
        spec = self._catalog.spec(desired)
        watched = transition.open_window(desired)
        if watched is None:
            words = f"watching it was interrupted {transition.MAX_WINDOWS} times"
            await self._fail(desired, spec, words, blame=False)
            return True
        await self._decide(desired, lambda job: _begin_window(watched, job))
        desired = watched
        gate = Gate(spec.update.within_s, spec.update.stable_s, self._clock.monotonic(), spec.update.patient)
        expected = tuple(c.service for c in spec.containers)
        while self._ledger.desired.get(desired.name) == desired:
            seen = _new_ones(spec, (await look(desired.name)).containers)
            if not {container.service for container in seen}.issuperset(expected):
                log.warning("container_gone_on_trial instance=%s", desired.name)
                return False
            gate = observe(gate, expected, seen, await self._ask(spec.update.probe, seen), self._clock.monotonic())
            if gate.verdict is Verdict.PASSED:
                await self._pass(desired)
            elif gate.verdict is Verdict.FAILED:
                if await is_cut(desired.name):
                    log.warning("network_cut_on_trial instance=%s reason=%r", desired.name, gate.reason)
                    return False
                log.warning("health_gate_failed instance=%s reason=%r", desired.name, gate.reason)
                await self._fail(desired, spec, gate.reason, blame=True)
            else:
                await asyncio.sleep(LOOK_S)
        return True

    async def judge(self, desired: Desired, error: GatewayError, *, attempts: int) -> None:
        """A step failed: a version on trial goes back when trying again cannot help; else the job says why it goes on.

        The release is blamed only for what is its own doing: not for disk, registry, engine or a killed agent.
        """
        blame = error.code in OWN_FAULTS
        # Nothing is fetched for going back: an image that somebody removed is on its way here again.
        lasting = not error.retryable and not (error.code == IMAGE_GONE and transition.returns(self._job(desired)))
        hopeless = blame or lasting or attempts >= GIVE_UP_AFTER or error.code.startswith(NO_COPIES)
        if not (desired.on_trial and hopeless):
            await self._tell(desired, error)
        else:
            await self._fail(desired, self._catalog.find(desired), str(error), blame=blame)

    async def conclude(self, desired: Desired) -> None:
        """The instance is as it shall be: close what is open."""

        def decision(job: Job | None) -> Change:
            after, ended = transition.conclude(desired, job)
            changed = (after,) if after != desired else ()
            gone = self._forgettable(after)
            return Change(desired=changed, jobs=(ended,) if ended and ended != job else (), releases_gone=gone)

        if desired.job or desired.restore or desired.hold == transition.RESTARTING:
            await self._decide(desired, decision)

    async def mark_restored(self, desired: Desired) -> None:
        """The data are back: what shall run may start."""
        await self._decide(desired, lambda _: Change(desired=(replace(desired, restore=""),)))

    async def forget(self, desired: Desired) -> None:
        """Its containers are gone: the instance is, too."""

        def decision(job: Job | None) -> Change:
            ended = (replace(job, state=JobState.DONE, message="", progress=100),) if job else ()
            return Change(gone=(desired.name,), jobs=ended, releases_gone=self._forgettable(desired, gone=True))

        await self._decide(desired, decision)
        self._told.pop(desired.name, None)

    async def _ask(self, probe: Probe | None, seen: Sequence[ContainerState]) -> str | None:
        if probe is None:
            return None
        for container in seen:
            if container.service == probe.service and container.state is RunState.RUNNING:
                return await self._prober.ask(container, probe)
        return f"{probe.service} does not run"

    async def _pass(self, desired: Desired) -> None:
        def decision(_: Job | None) -> Change:
            stored = self._ledger.releases.get(desired.current.release) if desired.current else None
            forgiven = (replace(stored, failed=""),) if stored and stored.failed else ()
            keep = self._catalog.premises.policy.keep_versions
            return Change(desired=(transition.prove(desired, keep=keep),), releases=forgiven)

        await self._decide(desired, decision)

    async def _fail(self, desired: Desired, spec: AppSpec | None, reason: str, *, blame: bool) -> None:
        await self._decide(desired, lambda job: fail_trial(self._ledger, desired, job, spec, reason, blame=blame))

    async def _tell(self, desired: Desired, error: GatewayError) -> None:
        """What its job waits for. One that goes back says why it does, and a newer one still fetches another version.

        It is told once for each code: an error's words may be other ones at each try, and each telling goes to the cloud.
        """

        def decision(job: Job | None) -> Change:
            if job is None or job.state not in transition.PAST_FETCHING or transition.REASON in job.params:
                return Change()
            if self._told.get(desired.name) == (job.id, error.code, job.message):
                return Change()
            message = f"tried again: {error}"
            self._told[desired.name] = (job.id, error.code, message)
            return Change(jobs=(replace(job, message=message),)) if message != job.message else Change()

        await self._decide(desired, decision)

    async def _decide(self, desired: Desired, decision: Callable[[Job | None], Change]) -> None:
        """Write what `decision` makes of the open job, unless another decision has overtaken `desired`."""

        def still() -> Change:
            if self._ledger.desired.get(desired.name) != desired:
                return Change()
            return decision(self._job(desired))

        await self._ledger.decide(still)

    def _job(self, desired: Desired) -> Job | None:
        return self._ledger.open_job(desired.name)

    def _forgettable(self, desired: Desired, *, gone: bool = False) -> tuple[str, ...]:
        others = [each for name, each in self._ledger.desired.items() if name != desired.name]
        return forgettable(others if gone else [*others, desired], self._ledger.releases)


def fail_trial(
    ledger: Ledger, desired: Desired, job: Job | None, spec: AppSpec | None, reason: str, *, blame: bool
) -> Change:
    """The version on trial goes back, or stops where nothing was before; blamed, its release is not tried again.

    `spec` is None where it cannot be read any more, and so could not stay in any case.
    """
    keeps = not blame and transition.returns(job)
    automatic = spec is None or spec.update.automatic_rollback
    after, ended = transition.fall_back(desired, job, reason, automatic=automatic, keeps=keeps)
    stored = ledger.releases.get(desired.current.release) if desired.current else None
    bad = (replace(stored, failed=reason),) if stored and blame else ()
    return Change(desired=(after,), jobs=(ended,) if ended else (), releases=bad)


def _begin_window(watched: Desired, job: Job | None) -> Change:
    """A newer job that still fetches another version has nothing to do with this trial."""
    if job is None or job.state not in transition.PAST_FETCHING:
        return Change(desired=(watched,))
    moved = replace(job, state=JobState.VERIFYING, message="waiting for it to be healthy", progress=50)
    return Change(desired=(watched,), jobs=(moved,))


def _new_ones(spec: AppSpec, containers: Sequence[ContainerState]) -> list[ContainerState]:
    wanted = {c.service: c.spec_hash for c in spec.containers}
    return [c for c in containers if wanted.get(c.service) == c.spec]
