"""Which releases may be forgotten: those that no instance runs or goes back to, beyond a bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.domain.app import Desired
from agent.domain.journal import StoredRelease

KEEP_UNUSED = 16
KEEP_FAILED = 256
"""Known-bad marks are what a release is stored for after its end, so many more of them stay."""


def forgettable(desired: Iterable[Desired], releases: Mapping[str, StoredRelease]) -> tuple[str, ...]:
    """Hashes of the unused releases beyond the bounds, those known longest first; they can be deployed anew."""
    used = {version.release for each in desired for version in each.versions}
    unused = [stored for hash_, stored in releases.items() if hash_ not in used]
    good = [stored.hash for stored in unused if not stored.failed]
    failed = [stored.hash for stored in unused if stored.failed]
    return (*good[: max(0, len(good) - KEEP_UNUSED)], *failed[: max(0, len(failed) - KEEP_FAILED)])
