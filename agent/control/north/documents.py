"""Which document brings the release that an index names, and what is remembered of those that were used.

Before it is deployed nobody can tell which release a text makes that names images by tags. So the last one that was
submitted for an instance is remembered, with the release it was asked for: for that one it is used again, for another
it is a document not replaced yet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from agent.control.ledger import Ledger
from agent.domain.command import JobState
from agent.domain.transition import PAST_FETCHING, REASON
from agent.ports import DesiredBundle

ACTED = "desired_document:"
"""Begins the keys under which the ledger keeps each instance's `Mark`."""

Document = str | DesiredBundle
"""A manifest's text, or where a bundle is; "" for none."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last document that was submitted: the release it was asked for ("" for any), and its seal.

    `came` is a bundle's job, and once that has adopted it the release it became. A text is known again by itself.
    """

    asked: str = ""
    seal: str = ""
    came: str = ""

    @property
    def row(self) -> str:
        """As it is kept."""
        return f"{self.asked} {self.seal} {self.came}".rstrip()


def seal_of(document: Document) -> str:
    """The SHA-256 of a manifest's text, or of a bundle, as hex digits."""
    return hashlib.sha256(document.encode()).hexdigest() if isinstance(document, str) else document.sha256


class UsedDocuments:
    """Reads the ledger; who submits a document writes its mark there."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def mark(self, instance: str) -> Mark:
        """What is remembered of an instance."""
        asked, seal, came, *_ = [*self._ledger.meta.get(ACTED + instance, "").split(" "), "", ""]
        return Mark(asked, seal, came)

    def runs(self, instance: str, release: str) -> bool:
        """Whether the instance has the release that an index names, by its hash, by its document's seal or by the mark.

        A hash may be another gateway's, where the document's tags meant other images: what was made here of the
        document that was used for it is that release.
        """
        desired = self._ledger.desired.get(instance)
        if not release or desired is None or desired.current is None:
            return False
        now = desired.current.release
        stored = self._ledger.releases.get(now)
        seal = seal_of(stored.text) if stored else ""
        mark = self.mark(instance)
        return release in (now, seal) or (mark.asked == release and (mark.seal == seal or mark.came == now))

    def find(self, instance: str, release: str, found: Document) -> Document:
        """What brings `release`: its text as it is kept here, or `found`, which lies there for the instance.

        "" while it is not here: what was used last, and for another release, what can only be another, and what runs as
        another while nothing tells of its use is not it, unless it has been that before.
        """
        stored = self._ledger.releases.get(release)
        if stored is not None and not (stored.files or stored.beside):
            return stored.text
        if not release or not found:
            return found
        seal, mark = seal_of(found), self.mark(instance)
        if seal == release or (mark.asked, mark.seal) == (release, seal):
            return found
        made = {each.hash: each for each in self._ledger.releases.values() if each.text == found}
        if release in made:
            return found
        certain = any(all("@" in image for image in each.digests) for each in made.values())
        desired = self._ledger.desired.get(instance)
        runs = desired is not None and desired.current is not None and desired.current.release in made
        return "" if mark.seal == seal or certain or (runs and not mark.seal) else found

    def came_of(self, instance: str, job_id: str) -> str:
        """The release that a job has brought an instance; the job itself while it has not."""
        job, desired = self._ledger.jobs.get(job_id), self._ledger.desired.get(instance)
        if job is None or desired is None or desired.current is None or desired.job not in ("", job_id):
            return job_id
        brought = job.state in (*PAST_FETCHING, JobState.DONE) and REASON not in job.params  # else it goes back already
        return desired.current.release if brought else job_id
