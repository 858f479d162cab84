"""The decisions about APPs: install, upgrade, configure, start, stop, restart, roll back, remove, cancel.

Pure computations on the ledger's state: each returns the change and the reply, and raises without a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.control.catalog import Catalog, read
from agent.control.deploy import Deployer
from agent.control.inbox import Decide
from agent.control.ledger import Ledger
from agent.control.runner import accepted, begin
from agent.control.versions import choose_version
from agent.domain import transition
from agent.domain.app import Desired, Trial, Wanted
from agent.domain.command import Command, Job, JobState, Origin, Reply
from agent.domain.journal import Change
from agent.domain.params import Configure, Deploy, Instance, JobId, Remove, RollBack
from agent.errors import Conflict, NotFound, Refused
from agent.ports import Clock


class AppDecisions:
    """One method per command type; `table` is what the inbox takes."""

    def __init__(self, ledger: Ledger, catalog: Catalog, deployer: Deployer, clock: Clock) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._deployer = deployer
        self._clock = clock
        self.table: dict[str, Decide] = {
            "app.install": self.install,
            "app.upgrade": self.upgrade,
            "app.configure": self.configure,
            "app.start": self.start,
            "app.stop": self.stop,
            "app.restart": self.restart,
            "app.rollback": self.roll_back,
            "app.remove": self.remove,
            "job.cancel": self.cancel,
        }

    def install(self, command: Command, params: Deploy) -> tuple[Change, Reply]:
        """A new instance. Conflict when there is one of that name."""
        if params.instance in self._ledger.desired:
            found = self._ledger.desired[params.instance]
            owner = found.owner
            hint = f"use app.upgrade (it is owned by {owner}), or install it --as another name"
            if _is_going(found):
                hint = "it is being removed: wait until it is gone, or keep it with app.upgrade"
            raise Conflict("app.exists", f"there is an APP instance '{params.instance}'", hint=hint, owner=owner.value)
        job = self._job(command, "install", params.instance, params.model_dump(exclude={"instance", "take_over"}))
        self._check(command, params, job, None)
        desired = Desired(params.instance, command.origin, Wanted.RUNNING, job=job.id)
        return Change(desired=(desired,), jobs=(job,)), accepted(command, job)

    def upgrade(self, command: Command, params: Deploy) -> tuple[Change, Reply]:
        """Another release of an instance; one that is being removed stays after all."""
        desired = self._own(command, params.instance, take_over=params.take_over)
        if _is_going(desired):
            desired = replace(desired, wanted=Wanted.RUNNING, hold="")
        job = self._job(command, "upgrade", params.instance, params.model_dump(exclude={"instance", "take_over"}))
        self._check(command, params, job, desired)
        return self._begin(command, desired, job)

    def configure(self, command: Command, params: Configure) -> tuple[Change, Reply]:
        """New values; the release stays. Anyone may set their own layer."""
        desired = self._staying(params.instance)
        if desired.current is None:
            raise Conflict("app.not_fetched", f"{params.instance} is not installed yet", hint="wait for its job")
        job = self._job(command, "configure", params.instance, params.model_dump(exclude={"instance"}))
        stored = self._ledger.releases[desired.current.release]
        job = replace(job, params={**job.params, "files": stored.files})
        self._deployer.draft(job, read(stored.text, params.instance), desired)
        return self._begin(command, desired, job)

    def start(self, command: Command, params: Instance) -> tuple[Change, Reply]:
        """Run what was stopped; what is being removed stays after all."""
        desired = self._ledger.get(params.instance)
        if desired.wanted is Wanted.RUNNING:
            return Change(), Reply(command.id, 200, f"{params.instance} shall run already")
        return self._want(command, replace(desired, wanted=Wanted.RUNNING, hold=""), "start")

    def stop(self, command: Command, params: Instance) -> tuple[Change, Reply]:
        """Stop it; it stays stopped over restarts, and is reported as held."""
        desired = self._staying(params.instance)
        who = command.who or command.origin.value
        return self._want(command, replace(desired, wanted=Wanted.STOPPED, hold=f"stopped by {who}"), "stop")

    def restart(self, command: Command, params: Instance) -> tuple[Change, Reply]:
        """Stop and start it, in order of dependence."""
        desired = self._staying(params.instance)
        if desired.current is None:
            hint = "wait for its job, or cancel it"
            raise Conflict("app.not_fetched", f"{params.instance} is not installed yet", hint=hint)
        stopped = replace(desired, wanted=Wanted.STOPPED, hold=transition.RESTARTING)
        return self._settle(command, stopped, "restart")

    def roll_back(self, command: Command, params: RollBack) -> tuple[Change, Reply]:
        """Back to a kept version, with its values, by the same gate; from a version on trial to the proven one."""
        desired = self._staying(params.instance)
        version = choose_version(desired, self._catalog, params.to, forced=params.force)
        job = self._job(command, "rollback", params.instance, {})
        base = replace(desired, wanted=Wanted.RUNNING, hold="")
        keep = self._catalog.premises.policy.keep_versions
        after, moved = transition.adopt(base, job, version, needs_trial=True, keep=keep)
        stored = self._ledger.releases[version.release]
        forgiven = (replace(stored, failed=""),) if stored.failed else ()
        jobs = (moved, *self._superseded(desired, job))
        return Change(desired=(after,), jobs=jobs, releases=forgiven), accepted(command, job)

    def remove(self, command: Command, params: Remove) -> tuple[Change, Reply]:
        """Take it away; its volumes only when asked."""
        desired = self._own(command, params.instance, take_over=params.take_over)
        wanted = Wanted.PURGED if params.volumes else Wanted.ABSENT
        return self._settle(command, replace(desired, wanted=wanted), "remove")

    def cancel(self, command: Command, params: JobId) -> tuple[Change, Reply]:
        """Stop a job: before its version was adopted nothing has changed; on trial it goes back."""
        job = self._ledger.jobs.get(params.job)
        if job is None:
            raise NotFound("job.unknown", f"there is no job '{params.job}'", hint="see `ecgw job list`")
        if job.state.final:
            raise Conflict("job.over", f"job {job.id} is {job.state} already")
        desired = self._ledger.desired.get(job.instance)
        cancelled = replace(job, state=JobState.CANCELLED, message=f"cancelled by {command.who or command.origin}")
        if desired is None or desired.job != job.id:
            return Change(jobs=(cancelled,)), Reply(command.id, 200)
        if desired.current is None:
            return Change(jobs=(cancelled,), gone=(desired.name,)), Reply(command.id, 200)
        if job.state in (JobState.WAITING, JobState.DOWNLOADING):
            return Change(desired=(replace(desired, job=""),), jobs=(cancelled,)), Reply(command.id, 200)
        if desired.trial is Trial.PROVEN or desired.wanted is not Wanted.RUNNING:
            raise Conflict("job.too_late", f"job {job.id} cannot be cancelled any more", hint="wait, or roll back")
        after, _ = transition.fall_back(desired, None, "cancelled", automatic=True)
        return Change(desired=(replace(after, job=""),), jobs=(cancelled,)), Reply(command.id, 200)

    def _check(self, command: Command, params: Deploy, job: Job, desired: Desired | None) -> None:
        if params.folder and command.origin is Origin.CLOUD:
            raise Refused("app.folder", "the cloud may not name a folder of the gateway", hint="send files instead")
        self._deployer.draft(job, read(params.manifest, params.instance), desired)

    def _own(self, command: Command, instance: str, *, take_over: bool) -> Desired:
        """The instance, when the sender owns its release or takes it over in so many words."""
        desired = self._ledger.get(instance)
        if desired.owner is command.origin:
            return desired
        if not take_over:
            raise Conflict(
                "app.owner",
                f"{instance} is owned by {desired.owner}, not by {command.origin}",
                hint="take it over explicitly (take_over: true, --take-over), or let its owner do it",
                owner=desired.owner.value,
            )
        return replace(desired, owner=command.origin)

    def _staying(self, instance: str) -> Desired:
        """The instance, unless it is on its way out."""
        desired = self._ledger.get(instance)
        if _is_going(desired):
            hint = "wait until it is gone, or keep it with app.start or app.upgrade"
            raise Conflict("app.removing", f"{instance} is being removed", hint=hint)
        return desired

    def _want(self, command: Command, desired: Desired, kind: str) -> tuple[Change, Reply]:
        """Running or stopped. While its first version is still fetched there is nothing to do but to remember it."""
        if desired.current is not None:
            return self._settle(command, desired, kind)
        return Change(desired=(desired,)), Reply(command.id, 200, f"{desired.name}: {kind} holds once it is installed")

    def _begin(self, command: Command, desired: Desired, job: Job) -> tuple[Change, Reply]:
        after = replace(desired, job=job.id)
        return Change(desired=(after,), jobs=(job, *self._superseded(desired, job))), accepted(command, job)

    def _settle(self, command: Command, desired: Desired, kind: str) -> tuple[Change, Reply]:
        """A change that needs no images: the reconciler ends the job once it is so."""
        job = replace(self._job(command, kind, desired.name, {}), state=JobState.INSTALLING)
        return self._begin(command, desired, job)

    def _superseded(self, desired: Desired, by: Job) -> tuple[Job, ...]:
        old = self._ledger.open_job(desired.name)
        return (transition.supersede(old, by.id),) if old else ()

    def _job(self, command: Command, kind: str, instance: str, params: Mapping[str, Any]) -> Job:
        return begin(command, kind, instance, params, self._clock.now_ms())


def _is_going(desired: Desired) -> bool:
    return desired.wanted in (Wanted.ABSENT, Wanted.PURGED)
