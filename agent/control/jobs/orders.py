"""The decisions about jobs themselves: cancel one, have it run now, or end it because its deadline has passed."""

from __future__ import annotations

from dataclasses import replace

from agent.control.inbox import Decide
from agent.control.ledger import Ledger
from agent.domain import transition
from agent.domain.app import Desired, Trial, Wanted
from agent.domain.command import Command, Job, JobState, Origin, Reply
from agent.domain.journal import Change
from agent.domain.params import JobId
from agent.errors import Conflict, NotFound, Refused


class JobOrders:
    """`table` is what the inbox takes; `expire` what the deadlines ask."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.table: dict[str, Decide] = {"job.cancel": self.cancel, "job.now": self.run_now}

    def cancel(self, command: Command, params: JobId) -> tuple[Change, Reply]:
        """Stop a job: before its version was adopted nothing has changed; on trial it goes back."""
        job = self._open(params)
        desired = self._ledger.desired.get(job.instance)
        cancelled = replace(job, state=JobState.CANCELLED, message=f"cancelled by {command.who or command.origin}")
        before = self._before_adoption(job, cancelled, desired)
        if before is not None:
            return before, Reply(command.id, 200)
        assert desired is not None
        if not _on_trial(desired):
            raise Conflict("job.too_late", f"job {job.id} cannot be cancelled any more", hint="wait, or roll back")
        after, _ = transition.fall_back(desired, None, "cancelled", automatic=True, keeps=transition.returns(job))
        return Change(desired=(replace(after, job=""),), jobs=(cancelled,)), Reply(command.id, 200)

    def run_now(self, command: Command, params: JobId) -> tuple[Change, Reply]:
        """Let a job that waits for its time or its window run at once: the word of somebody at the box alone."""
        job = self._open(params)
        if command.origin is not Origin.LOCAL:
            raise Refused("job.now", "what waits for its time is released at the box only", hint="use ecgw job now")
        if job.state is not JobState.WAITING:
            raise Conflict("job.not_waiting", f"job {job.id} is {job.state}; it does not wait for its time")
        released = replace(job, at_once=True, until_ms=0, message="")
        return Change(jobs=(released,)), Reply(command.id, 202, f"job {job.id} follows", job=job.id)

    def expire(self, job_id: str) -> Change:
        """The job's deadline has passed: it ends as failed; a version on trial goes back and is not blamed."""
        job = self._ledger.jobs[job_id]
        if job.state.final:
            return Change()
        reason = f"not done within its deadline of {job.deadline_s:g} s"
        if job.message:
            reason += f" (it was {job.state}: {job.message})"
        if job.fetching and job.cause and job.cause not in job.message:
            reason += f"; its last try failed: {job.cause}"
        desired = self._ledger.desired.get(job.instance)
        failed = replace(job, state=JobState.FAILED, message=reason)
        before = self._before_adoption(job, failed, desired)
        if before is not None:
            return before
        assert desired is not None
        if transition.REASON in job.params:
            return Change()  # on its way back already
        if not _on_trial(desired):
            return Change(desired=(replace(desired, job=""),), jobs=(failed,))
        after, ended = transition.fall_back(desired, job, reason, automatic=True, keeps=transition.returns(job))
        return Change(desired=(after,), jobs=(ended or failed,))

    def _before_adoption(self, job: Job, ended: Job, desired: Desired | None) -> Change | None:
        """What ends a job that has changed nothing yet; None when it has."""
        if desired is None or desired.job != job.id:
            return Change(jobs=(ended,))
        if desired.current is None:
            return Change(jobs=(ended,), gone=(desired.name,))
        if job.fetching:
            return Change(desired=(replace(desired, job=""),), jobs=(ended,))
        return None

    def _open(self, params: JobId) -> Job:
        job = self._ledger.jobs.get(params.job)
        if job is None:
            raise NotFound("job.unknown", f"there is no job '{params.job}'", hint="see `ecgw job list`")
        if job.state.final:
            raise Conflict("job.over", f"job {job.id} is {job.state} already")
        return job


def _on_trial(desired: Desired) -> bool:
    return desired.trial is Trial.VERIFYING and desired.wanted is Wanted.RUNNING
