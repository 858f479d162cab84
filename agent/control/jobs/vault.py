"""One-time logins of commands, and the queries of signed URLs: in memory, by job, and nowhere else.

A restart of the agent forgets them. Only the name of the place they open is ever written: with the job, so that a job
that lost them knows what to wait for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agent.domain.admission import full_name
from agent.ports import Login


class Vault:
    """Logins by job, and within a job by registry (host, or host:port)."""

    def __init__(self) -> None:
        self._logins: dict[str, Mapping[str, Login]] = {}
        self._queries: dict[str, str] = {}

    def keep(self, job_id: str, logins: Mapping[str, Login], query: str, open_jobs: Collection[str]) -> None:
        """Hold what a job brought. What is of jobs that are not among `open_jobs`, or were never written, goes."""
        self._logins = {job: held for job, held in self._logins.items() if job in open_jobs}
        self._queries = {job: held for job, held in self._queries.items() if job in open_jobs}
        if logins:
            self._logins[job_id] = {_host(registry): login for registry, login in logins.items()}
        if query:
            self._queries[job_id] = query

    def holds(self, job_id: str) -> bool:
        """True while what the job brought is here."""
        return job_id in self._logins or job_id in self._queries

    def query(self, job_id: str) -> str:
        """What follows the ``?`` of the job's URL; "" when it has none, or lost it."""
        return self._queries.get(job_id, "")

    def login(self, job_id: str, image: str) -> Login | None:
        """What the job brought along for the registry of `image`."""
        return self._logins.get(job_id, {}).get(_host(full_name(image)))

    def forget(self, job_id: str) -> None:
        """The job is over."""
        self._logins.pop(job_id, None)
        self._queries.pop(job_id, None)


def _host(name: str) -> str:
    return name.partition("/")[0].lower()
