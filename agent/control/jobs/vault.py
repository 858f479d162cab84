"""One-time logins of commands: in memory, by job, and nowhere else. A restart of the agent forgets them.

Of a login only the registry's name is ever written: with the job, so that a job that lost it knows what to wait for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agent.domain.admission import full_name
from agent.ports import Login


class Vault:
    """Logins by job, and within a job by registry (host, or host:port)."""

    def __init__(self) -> None:
        self._logins: dict[str, Mapping[str, Login]] = {}

    def keep(self, job_id: str, logins: Mapping[str, Login], open_jobs: Collection[str]) -> None:
        """Hold a job's logins. Those of jobs that are not among `open_jobs`, or were never written, go."""
        self._logins = {job: held for job, held in self._logins.items() if job in open_jobs}
        if logins:
            self._logins[job_id] = {_host(registry): login for registry, login in logins.items()}

    def holds(self, job_id: str) -> bool:
        """True while the job's logins are here."""
        return job_id in self._logins

    def login(self, job_id: str, image: str) -> Login | None:
        """What the job brought along for the registry of `image`."""
        return self._logins.get(job_id, {}).get(_host(full_name(image)))

    def forget(self, job_id: str) -> None:
        """The job is over."""
        self._logins.pop(job_id, None)


def _host(name: str) -> str:
    return name.partition("/")[0].lower()
