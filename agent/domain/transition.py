"""How decisions change an instance's desired state and its job: pure functions, one per decision.

Each returns the new `Desired` and the new `Job` together, because they are written together.
"""

from __future__ import annotations

from dataclasses import replace

from agent.domain.app import Desired, Trial, Version, Wanted
from agent.domain.command import Job, JobState

RESTARTING = "restarting"
REASON = "reason"


def adopt(desired: Desired, job: Job, version: Version, *, needs_trial: bool) -> tuple[Desired, Job]:
    """Its images are here: `version` becomes the wanted one.

    The proven version before it is kept to go back to, also when an unproven one is replaced half-way.
    """
    proven = desired.previous if desired.trial is Trial.VERIFYING else desired.current
    trying = needs_trial and desired.wanted is Wanted.RUNNING
    after = replace(
        desired,
        current=version,
        previous=proven if proven != version else desired.previous,
        trial=Trial.VERIFYING if trying else Trial.PROVEN,
        job=job.id,
    )
    return after, replace(job, state=JobState.INSTALLING, message="", progress=0)


def prove(desired: Desired) -> Desired:
    """The health gate has passed: the old containers may go."""
    return replace(desired, trial=Trial.PROVEN)


def fall_back(desired: Desired, job: Job | None, reason: str, *, automatic: bool) -> tuple[Desired, Job | None]:
    """The version on trial did not prove itself: back to the one before, or stop where there is none."""
    if desired.previous is not None and automatic:
        after = replace(desired, current=desired.previous, previous=None, trial=Trial.PROVEN)
        if job is None:
            return after, None
        return after, replace(job, message=f"going back: {reason}", params={**job.params, REASON: reason})
    failed = replace(job, state=JobState.FAILED, message=reason) if job else None
    if desired.previous is not None:
        return replace(desired, trial=Trial.PROVEN, job=""), failed
    hold = f"did not pass its health gate: {reason}"
    return replace(desired, wanted=Wanted.STOPPED, hold=hold, trial=Trial.PROVEN, job=""), failed


def conclude(desired: Desired, job: Job | None) -> tuple[Desired, Job | None]:
    """It is as it shall be: the job under way ends, or a restart goes on with its second half."""
    if desired.wanted is Wanted.STOPPED and desired.hold == RESTARTING:
        return replace(desired, wanted=Wanted.RUNNING, hold=""), job
    if job is None or job.state not in (JobState.INSTALLING, JobState.VERIFYING):
        return desired, job
    reason = job.params.get(REASON)
    if reason:
        return replace(desired, job=""), replace(job, state=JobState.ROLLED_BACK, message=str(reason), progress=100)
    return replace(desired, job=""), replace(job, state=JobState.DONE, message="", progress=100)


def supersede(job: Job, by: str) -> Job:
    """A newer command replaces this job."""
    return replace(job, state=JobState.SUPERSEDED, message=f"replaced by job {by}")
