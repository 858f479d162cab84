"""How decisions change an instance's desired state and its job: pure functions, one per decision.

Each returns the new `Desired` and the new `Job` together, because they are written together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.domain.app import Desired, Trial, Version, Wanted
from agent.domain.command import DEPLOYMENTS, Job, JobState

RESTARTING = "restarting"
UNPROVEN = "did not pass its health gate"
REASON = "reason"
CARRIES = "carries"
"""Under this key a start, stop or restart names the job whose version it goes on with."""
MAX_WINDOWS = 5
PAST_FETCHING = (JobState.INSTALLING, JobState.VERIFYING)


def adopt(
    desired: Desired, job: Job, version: Version, *, needs_trial: bool, keep: int, brought: Job | None = None
) -> tuple[Desired, Job]:
    """Its images are here: `version` becomes the wanted one; `keep` others are kept to go back to.

    `brought` is the job that made the present one wanted: what that went back to has proved itself before, and stays kept.
    While it is on trial one more is: should it fail, what it replaced is no longer one of those to go back to.
    The proven version before it is kept first, also when an unproven one is replaced half-way; then the data that go
    back with it stay those of the proven one, also when that was wanted again for a moment (`restore`). What has proven
    itself needs no other trial; what comes while the instance is stopped has its trial when it is started.
    """
    on_trial = desired.trial is Trial.VERIFYING
    proven = desired.previous if on_trial else desired.current
    tried = (desired.current,) if on_trial and returns(brought) and desired.current is not None else ()
    older = (*desired.history[1:], *tried) if on_trial else desired.history
    verifying = proven != version and (needs_trial or on_trial)
    held_by_gate = desired.hold.startswith(UNPROVEN)
    after = replace(
        desired,
        wanted=Wanted.RUNNING if held_by_gate else desired.wanted,
        hold="" if held_by_gate else desired.hold,
        current=version,
        history=_kept(version, proven, older)[: keep + verifying],
        trial=Trial.VERIFYING if verifying else Trial.PROVEN,
        job=job.id,
        snapshot=desired.snapshot if on_trial else desired.restore or job.id,
        restore=desired.snapshot if on_trial and not verifying and not desired.restore else desired.restore,
        windows=0,
    )
    # The last word on its bytes may have come before they all had.
    return after, replace(job, state=JobState.INSTALLING, message="", progress=0, done_bytes=job.total_bytes)


def _kept(current: Version, proven: Version | None, older: Sequence[Version]) -> tuple[Version, ...]:
    """What to go back to from `current`, newest first: of an older release only its last values."""
    kept = [proven] if proven is not None and proven != current else []
    for version in older:
        if version != current and version.release not in {each.release for each in kept}:
            kept.append(version)
    return tuple(kept)


def prove(desired: Desired, *, keep: int) -> Desired:
    """The health gate has passed: the old containers may go, and all versions beyond the `keep` newest before it."""
    return replace(end_trial(desired), history=desired.history[:keep])


def end_trial(desired: Desired) -> Desired:
    """Whatever came of it, it is watched no longer."""
    return replace(desired, trial=Trial.PROVEN, snapshot="", windows=0)


def fall_back(
    desired: Desired, job: Job | None, reason: str, *, automatic: bool, keeps: bool = False
) -> tuple[Desired, Job | None]:
    """The version on trial did not prove itself: back to the one before, or stop where there is none.

    `job` is the one that brought it; a newer one that still fetches another version goes on. With `keeps` the version
    stays among those to go back to, as the last of them.
    """
    job = job if job is not None and job.state in PAST_FETCHING else None
    if desired.previous is not None and automatic:
        restore = desired.restore or desired.snapshot
        tried = (desired.current,) if keeps and desired.current is not None else ()
        history = (*desired.history[1:], *tried)
        after = replace(end_trial(desired), current=desired.previous, history=history, restore=restore)
        if job is None:
            return after, None
        return after, replace(job, message=f"going back: {reason}", params={**job.params, REASON: reason})
    failed = replace(job, state=JobState.FAILED, message=reason) if job else None
    open_job = "" if failed else desired.job
    if desired.previous is not None:
        return replace(end_trial(desired), job=open_job), failed
    # Started again by hand, it is still on trial.
    return replace(desired, wanted=Wanted.STOPPED, hold=f"{UNPROVEN}: {reason}", job=open_job), failed


def returns(job: Job | None) -> bool:
    """Whether `job` goes back to a version that has proven itself before, and that is lost only when its gate fails."""
    return job is not None and job.kind == "rollback"


def open_window(desired: Desired) -> Desired | None:
    """The health gate begins to watch anew, as after a restart of the agent; None when it did so often enough."""
    return replace(desired, windows=desired.windows + 1) if desired.windows < MAX_WINDOWS else None


def conclude(desired: Desired, job: Job | None) -> tuple[Desired, Job | None]:
    """It is as it shall be: the job under way ends, or a restart goes on with its second half."""
    desired = replace(desired, restore="")
    if desired.wanted is Wanted.STOPPED and desired.hold == RESTARTING:
        return replace(desired, wanted=Wanted.RUNNING, hold=""), job
    if job is None or job.state not in PAST_FETCHING:
        return desired, job
    reason = job.params.get(REASON)
    if reason:
        return replace(desired, job=""), replace(job, state=JobState.ROLLED_BACK, message=str(reason), progress=100)
    message = ""
    if carried := job.params.get(CARRIES):
        proven = "has proven itself" if desired.trial is Trial.PROVEN else "is still on trial"
        message = f"the version that job {carried} brought {proven}"
    return replace(desired, job=""), replace(job, state=JobState.DONE, message=message, progress=100)


def supersede(job: Job, by: Job) -> Job:
    """A newer command replaces this job; what it brought already, the newer one goes on with, and the words say so."""
    goes_on = f"; its version stays, and job {by.id} goes on with it" if brought(job, by) else ""
    return replace(job, state=JobState.SUPERSEDED, message=f"replaced by job {by.id}{goes_on}")


def brought(job: Job, by: Job) -> str:
    """The job that brought the version which `by` goes on with in the place of `job`; "" when that brings its own."""
    if by.kind not in ("start", "stop", "restart") or job.state not in PAST_FETCHING or job.params.get(REASON):
        return ""
    return job.id if job.kind in DEPLOYMENTS else str(job.params.get(CARRIES, ""))
