"""The decisions about APPs: install, upgrade, configure, start, stop, restart, roll back, remove.

Pure computations on the ledger's state: each returns the change and the reply, and raises without a trace. What a job
changes when its time has come is its *effect*; a command whose time is now has it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.control.apps.deploy import Deployer
from agent.control.apps.versions import choose_version
from agent.control.catalog import Catalog, read
from agent.control.inbox import Decide
from agent.control.jobs.maker import MOST_WAITING, NO_TIME, JobMaker, accepted
from agent.control.ledger import Ledger
from agent.domain import transition
from agent.domain.app import Desired, Wanted
from agent.domain.command import DEPLOYMENTS, Command, Job, JobState, Origin, Reply
from agent.domain.journal import Change
from agent.domain.params import Configure, Deploy, Deployment, FromBundle, Order, RollBack
from agent.errors import Conflict, Refused

Effect = Callable[[Job], tuple[Change, str]]
"""What a job changes now. Words instead of a job in the change: there is nothing to follow."""


BY_HAND = "take it over explicitly (take_over: true, --take-over), or let its owner do it"
BY_FILE = "a file takes nothing over: take the file away, or have the owner remove the instance first"


class AppDecisions:
    """One method per command type; `table` is what the inbox takes, `enter` what the job runner asks."""

    def __init__(self, ledger: Ledger, catalog: Catalog, deployer: Deployer, maker: JobMaker) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._deployer = deployer
        self._maker = maker
        self.table: dict[str, Decide] = {
            "app.install": self.install,
            "app.upgrade": self.upgrade,
            "app.configure": self.configure,
            "app.start": self.order,
            "app.stop": self.order,
            "app.restart": self.order,
            "app.rollback": self.order,
            "app.remove": self.order,
        }
        self._effects: dict[str, Effect] = {
            "upgrade": self._upgrade,
            "configure": self._configure,
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "rollback": self._roll_back,
            "remove": self._remove,
        }

    def install(self, command: Command, params: Deployment) -> tuple[Change, Reply]:
        """A new instance. Conflict when there is one of that name."""
        job = self._maker.make(command, "install", params, params.model_dump(exclude=NO_TIME))
        again = self._continued(command, job, params)
        if again is not None:
            return again
        if params.instance in self._ledger.desired:
            found = self._ledger.desired[params.instance]
            owner = found.owner
            hint = f"use app.upgrade (it is owned by {owner}), or install it --as another name"
            if _is_going(found):
                hint = "it is being removed: wait until it is gone, or keep it with app.upgrade"
            raise Conflict("app.exists", f"there is an APP instance '{params.instance}'", hint=hint, owner=owner.value)
        self._check(command, params, job, None)
        self._maker.keep_logins(job, params.credentials)
        return self.begin(command, job)

    def upgrade(self, command: Command, params: Deployment) -> tuple[Change, Reply]:
        """Another release of an instance; one that is being removed stays after all."""
        job = self._maker.make(command, "upgrade", params, params.model_dump(exclude=NO_TIME))
        desired = self._own(job)
        again = self._continued(command, job, params)
        if again is not None:
            return again
        self._check(command, params, job, desired)
        self._maker.keep_logins(job, params.credentials)
        return self.begin(command, job)

    def configure(self, command: Command, params: Configure) -> tuple[Change, Reply]:
        """New values; the release stays. Anyone may set their own layer."""
        desired = self._fetched(params.instance)
        assert desired.current is not None
        release = self._catalog.release(desired.current.release)
        given = {**params.model_dump(exclude=NO_TIME), "files": dict(release.files)}
        job = self._maker.make(command, "configure", params, given)
        self._deployer.draft(job, release.manifest, desired)
        return self.begin(command, job)

    def order(self, command: Command, params: Order) -> tuple[Change, Reply]:
        """Start, stop, restart, roll back or remove: needs no images."""
        kind = command.type.removeprefix("app.")
        given = {**params.model_dump(exclude=NO_TIME), "who": command.who or command.origin.value}
        return self.begin(command, self._maker.make(command, kind, params, given))

    def begin(self, command: Command, job: Job) -> tuple[Change, Reply]:
        """The job's effect now, or when its time has come; what is impossible is refused at once either way."""
        if job.kind == "install":
            desired = Desired(job.instance, job.origin, Wanted.RUNNING, job=job.id)
            job = self._maker.held(job) or job
            return Change(desired=(desired,), jobs=(job,)), accepted(command, job)
        change, said = self._effects[job.kind](job)
        held = self._maker.held(job)
        if held is not None:
            if len(self._ledger.open_jobs(job.instance)) >= MOST_WAITING:
                raise Conflict("job.too_many", f"too many jobs of {job.instance} wait", hint="cancel some")
            return Change(jobs=(held, *self._outdated(job))), accepted(command, held)
        if not change.jobs:
            return change, Reply(command.id, 200, said)
        return change, accepted(command, job)

    def enter(self, job: Job) -> Change | None:
        """The time of a job that waited has come: what it changes now. None while it is not its instance's turn."""
        desired = self._ledger.get(job.instance)
        if desired.job == job.id:
            return Change()
        open_job = self._ledger.open_job(job.instance)
        older = [j for j in self._ledger.open_jobs(job.instance) if _turn(j) < _turn(job) and not self._maker.held(j)]
        if open_job is not None or any(j.state is JobState.WAITING for j in older):
            return None
        change, said = self._effects[job.kind](job)
        if not change.jobs:
            return replace(change, jobs=(replace(job, state=JobState.DONE, message=said, progress=100),))
        return change

    # ---- what jobs change --------------------------------------------------------------------------------------

    def _upgrade(self, job: Job) -> tuple[Change, str]:
        desired = self._own(job)
        if _is_going(desired):
            desired = replace(desired, wanted=Wanted.RUNNING, hold="")
        return self._taken(desired, job), ""

    def _configure(self, job: Job) -> tuple[Change, str]:
        return self._taken(self._fetched(job.instance), job), ""

    def _start(self, job: Job) -> tuple[Change, str]:
        desired = self._ledger.get(job.instance)
        if desired.wanted is Wanted.RUNNING:
            return Change(), f"{job.instance} shall run already"
        return self._want(replace(desired, wanted=Wanted.RUNNING, hold="", windows=0), job)

    def _stop(self, job: Job) -> tuple[Change, str]:
        """It stays stopped over restarts, and is reported as held."""
        desired = self._staying(job.instance)
        return self._want(replace(desired, wanted=Wanted.STOPPED, hold=f"stopped by {job.params['who']}"), job)

    def _restart(self, job: Job) -> tuple[Change, str]:
        """Stop and start it, in order of dependence."""
        desired = self._fetched(job.instance)
        self._catalog.spec(desired)  # what cannot be read any more would be stopped, and never started
        return self._want(replace(desired, wanted=Wanted.STOPPED, hold=transition.RESTARTING), job)

    def _roll_back(self, job: Job) -> tuple[Change, str]:
        """Back to a kept version, with its values, by the same gate; from a version on trial to the proven one."""
        desired = self._staying(job.instance)
        params = RollBack.model_validate({"instance": job.instance, **_without_who(job.params)})
        version = choose_version(desired, self._catalog, params.to, forced=params.force)
        self._deployer.check_return(job.instance, version)
        base = replace(desired, wanted=Wanted.RUNNING, hold="")
        keep = self._catalog.premises.policy.keep_versions
        brought = self._ledger.jobs.get(desired.job)
        after, moved = transition.adopt(base, job, version, needs_trial=True, keep=keep, brought=brought)
        stored = self._ledger.releases[version.release]
        forgiven = (replace(stored, failed=""),) if stored.failed else ()
        return Change(desired=(after,), jobs=(moved, *self._superseded(job)), releases=forgiven), ""

    def _remove(self, job: Job) -> tuple[Change, str]:
        """Take it away; its volumes only when asked."""
        wanted = Wanted.PURGED if job.params.get("volumes") else Wanted.ABSENT
        return self._taken(replace(self._own(job), wanted=wanted), replace(job, state=JobState.INSTALLING)), ""

    # ---- inside ------------------------------------------------------------------------------------------------

    def _taken(self, desired: Desired, job: Job) -> Change:
        """`job` is the one in hand for the instance now."""
        return Change(desired=(replace(desired, job=job.id),), jobs=(job, *self._superseded(job)))

    def _want(self, desired: Desired, job: Job) -> tuple[Change, str]:
        """Running or stopped. While its first version is still fetched there is nothing to do but to remember it."""
        if desired.current is None:
            return Change(desired=(desired,)), f"{desired.name}: {job.kind} holds once it is installed"
        open_job = self._ledger.open_job(job.instance)
        carried = transition.brought(open_job, job) if open_job else ""
        params = {**job.params, transition.CARRIES: carried} if carried else job.params
        return self._taken(desired, replace(job, state=JobState.INSTALLING, params=params)), ""

    def _superseded(self, by: Job) -> tuple[Job, ...]:
        """What `by` replaces: the job in hand, and older deployments. One that is still fetched outlasts start and stop."""
        open_job = self._ledger.open_job(by.instance)
        replaced = {job.id: job for job in self._outdated_jobs(by)}
        outlasts = by.kind in ("start", "stop", "restart") and open_job is not None and open_job.fetching
        if open_job is not None and open_job.id != by.id and not outlasts:
            replaced[open_job.id] = open_job
        return tuple(transition.supersede(job, by) for job in replaced.values())

    def _outdated(self, by: Job) -> tuple[Job, ...]:
        return tuple(transition.supersede(job, by) for job in self._outdated_jobs(by))

    def _outdated_jobs(self, by: Job) -> list[Job]:
        """Jobs that wait or fetch and that a newer one makes pointless."""
        others = [j for j in self._ledger.open_jobs(by.instance) if j.id != by.id and j.created_ms <= by.created_ms]
        if by.kind == "remove":
            # A removal that itself waits leaves alone what is under way until then.
            return [] if self._maker.held(by) else others
        if by.kind not in DEPLOYMENTS:
            return []
        others = [j for j in others if j.kind in DEPLOYMENTS and j.fetching]
        # New values of one side do not undo what the other side has ordered.
        return [j for j in others if by.kind != "configure" or j.origin is by.origin]

    def _continued(self, command: Command, job: Job, params: Deployment) -> tuple[Change, Reply] | None:
        """The same command again, with credentials, goes on with the job that waits for them."""
        return self._maker.take_up(command, job, self._ledger.open_jobs(job.instance), params.credentials)

    def _check(self, command: Command, params: Deploy, job: Job, desired: Desired | None) -> None:
        if params.folder and command.origin is Origin.CLOUD and not isinstance(params, FromBundle):
            raise Refused("app.folder", "the cloud may not name a folder of the gateway", hint="send files instead")
        self._deployer.draft(job, read(params.manifest, params.instance), desired)

    def _own(self, job: Job) -> Desired:
        """The instance, when the sender owns its release or takes it over in so many words."""
        desired = self._ledger.get(job.instance)
        if desired.owner is job.origin:
            return desired
        if not job.params.get("take_over"):
            raise Conflict(
                "app.owner",
                f"{job.instance} is owned by {desired.owner}, not by {job.origin}",
                hint=BY_FILE if job.origin is Origin.FILE else BY_HAND,
                owner=desired.owner.value,
            )
        return replace(desired, owner=job.origin)

    def _staying(self, instance: str) -> Desired:
        """The instance, unless it is on its way out."""
        desired = self._ledger.get(instance)
        if _is_going(desired):
            hint = "wait until it is gone, or keep it with app.start or app.upgrade"
            raise Conflict("app.removing", f"{instance} is being removed", hint=hint)
        return desired

    def _fetched(self, instance: str) -> Desired:
        desired = self._staying(instance)
        if desired.current is None:
            hint = "wait for its job, or cancel it"
            raise Conflict("app.not_fetched", f"{instance} is not installed yet", hint=hint)
        return desired


def _turn(job: Job) -> tuple[int, int, str]:
    """Jobs of one instance whose time has come run in the order of their times."""
    return max(job.at_ms, job.created_ms), job.created_ms, job.id


def _without_who(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key != "who"}


def _is_going(desired: Desired) -> bool:
    return desired.wanted in (Wanted.ABSENT, Wanted.PURGED)
