"""When jobs may run and by when they must be done, by the gateway's clock as it is now.

Nothing here sleeps until a time of day: who waits looks again every so often, so that a clock that is set, forward or
back, by seconds or by years, is met with the right answer.
"""

from __future__ import annotations

from dataclasses import replace

from agent.domain.command import Job, Origin
from agent.domain.schedule import UpdateTimes, Wait, wait_for
from agent.errors import Malformed
from agent.ports import Clock

HELD_UP = frozenset({"install", "upgrade"})
"""What the update windows hold up when the cloud asks for it. Going back, stopping and removing are never held up."""


class Timetable:
    """The update windows and the clock."""

    def __init__(self, clock: Clock, times: UpdateTimes) -> None:
        self._clock = clock
        self._times = times

    def now_ms(self) -> int:
        """Epoch ms."""
        return self._clock.now_ms()

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self._clock.monotonic()

    def wait(self, job: Job) -> Wait | None:
        """What keeps the job waiting; None when it may run."""
        if job.at_once:
            return None
        bound = job.origin is Origin.CLOUD and job.kind in HELD_UP
        return wait_for(self._times, self._clock.now_ms(), sane=self._clock.sane(), at_ms=job.at_ms, bound=bound)

    def order(self, job: Job, at_ms: int | None, deadline_s: float | None) -> Job:
        """The job with its own time and its deadline, which counts from now; Malformed where it could only fail."""
        # A deadline by a wrong clock would be over as soon as that is set right: then only the time that passes counts.
        by_wall = self._clock.sane() and deadline_s is not None
        if by_wall and at_ms is not None and at_ms >= self._clock.now_ms() + (deadline_s or 0.0) * 1000:
            hint = "the deadline counts from the command: give a longer one, or an earlier time"
            raise Malformed("job.deadline", f"the deadline of {deadline_s:g} s is over before its time", hint=hint)
        return replace(
            job,
            at_ms=at_ms or 0,
            deadline_s=deadline_s or 0.0,
            deadline_ms=self._clock.now_ms() + round((deadline_s or 0.0) * 1000) if by_wall else 0,
        )

    def left_s(self, job: Job) -> float:
        """Seconds to a job's deadline, as far as the wall clock can be believed; never more than the whole."""
        if not job.deadline_ms or not self._clock.sane():
            return job.deadline_s
        return min(job.deadline_s, (job.deadline_ms - self._clock.now_ms()) / 1000)
