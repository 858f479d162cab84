"""What may be forgotten: releases that no instance runs or goes back to, and jobs that are over, beyond a bound."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from agent.domain.app import Desired
from agent.domain.command import Job
from agent.domain.journal import StoredRelease

KEEP_UNUSED = 16
KEEP_FAILED = 256
"""Known-bad marks are what a release is stored for after its end, so many more of them stay."""

KEEP_JOBS = 200
"""Jobs that are over stay to be looked at; the open ones always do."""
KEEP_UNTOLD = 1_000
"""So many, where the cloud has not heard of them yet. A gateway without a cloud keeps this many."""
KEPT_PARAMS = ("bundle",)
"""Of what a job that is over was told, nothing else is looked at again: manifests are large, and values may be secret."""


def forgettable(desired: Iterable[Desired], releases: Mapping[str, StoredRelease]) -> tuple[str, ...]:
    """Hashes of the unused releases beyond the bounds, those known longest first; they can be deployed anew."""
    used = {version.release for each in desired for version in each.versions}
    unused = [stored for hash_, stored in releases.items() if hash_ not in used]
    good = [stored.hash for stored in unused if not stored.failed]
    failed = [stored.hash for stored in unused if stored.failed]
    return (*good[: max(0, len(good) - KEEP_UNUSED)], *failed[: max(0, len(failed) - KEEP_FAILED)])


def outlived(over: Collection[str], untold: Collection[str]) -> tuple[str, ...]:
    """Of the jobs that are over, in the order in which they ended (clocks may be wrong), those beyond the bounds."""
    newest_first = enumerate(reversed([*over]))
    return tuple(id_ for rank, id_ in newest_first if rank >= (KEEP_UNTOLD if id_ in untold else KEEP_JOBS))


def as_kept(job: Job) -> Job:
    """The job as it stays: one that is over without what it was told."""
    if not job.state.final:
        return job
    return replace(job, params={name: job.params[name] for name in KEPT_PARAMS if name in job.params})
