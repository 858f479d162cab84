"""What people and clouds are shown of jobs: how far they are, what they wait for, what was done for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agent.control.inbox import Read
from agent.control.jobs.runner import Note
from agent.control.ledger import Ledger
from agent.domain.command import Job, JobState
from agent.domain.params import JobId, MaybeInstance
from agent.errors import NotFound

MAX_T_MS = 2**53


class JobViews:
    """The reads about jobs; `notes` is how far each one under way is, which is written only now and then."""

    def __init__(self, ledger: Ledger, notes: Mapping[str, Note]) -> None:
        self._ledger = ledger
        self._notes = notes
        self.table: dict[str, Read] = {"job.list": self.list_jobs, "job.status": self.job}

    async def list_jobs(self, params: MaybeInstance) -> Any:
        """Jobs, newest first."""
        jobs = [j for j in self._ledger.jobs.values() if params.instance in (None, j.instance)]
        return [self._show(j) for j in sorted(jobs, key=lambda j: -j.created_ms)]

    def _show(self, job: Job) -> dict[str, Any]:
        """A job with what its work last said, which is written only now and then."""
        note = self._notes.get(job.id)
        shown = show_job(job)
        return {**shown, **asdict(note)} if note is not None and job.state is JobState.DOWNLOADING else shown

    async def job(self, params: JobId) -> Any:
        """One job, with the steps of its instance while it was under way."""
        job = self._ledger.jobs.get(params.job)
        if job is None:
            raise NotFound("job.unknown", f"there is no job '{params.job}'", hint="see `ecgw job list`")
        to_ms = job.updated_ms if job.state.final else MAX_T_MS
        steps = await self._ledger.journal.steps(job.instance, job.created_ms, to_ms)
        return {**self._show(job), "steps": [asdict(step) for step in steps]}


def show_job(job: Job) -> dict[str, Any]:
    """A job as people see it. `until_ms` is what it waits for, `deadline_ms` when it fails; 0 is none or not known, also as
    `error_status`, the reply code of the error that it failed by.
    """
    return {
        "id": job.id,
        "kind": job.kind,
        "instance": job.instance,
        "command": job.command_id,
        "state": job.state.value,
        "message": job.message,
        "progress": job.progress,
        "done_bytes": job.done_bytes,
        "total_bytes": job.total_bytes,
        "until_ms": job.until_ms,
        "deadline_ms": job.deadline_ms,
        "created_ms": job.created_ms,
        "updated_ms": job.updated_ms,
        "error_status": job.error_status,
    }
