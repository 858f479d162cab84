"""The gateway's stock of images: what is needed stays, what is missing comes, and a full disk is cleaned up.

Needed are the images of every wanted version and of those to go back to, and those that an open job has brought.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any

from agent.control.catalog import Catalog
from agent.control.ledger import Ledger
from agent.domain.admission import allowed_registry
from agent.domain.command import DEPLOYMENTS, FETCHING, Job, JobState
from agent.domain.container import ImageInfo
from agent.domain.dockerfile import BuildHow
from agent.domain.imageref import read_ref
from agent.domain.journal import Change
from agent.domain.space import ENGINE_FOLDER, Disk
from agent.errors import GatewayError, NoSpace, Refused
from agent.ports import Images, Login, Progress

log = logging.getLogger("agent.control.images.stock")

BRINGING = DEPLOYMENTS | {"image.pull", "image.load", "image.build"}
"""Kinds of jobs after which the disk is fuller, or an image is needed no more."""


REST_LOOKS = 15
"""After a clean-up that found nothing so many looks at a full disk pass before the next: it lists all images."""


class ImageStock:
    """Who brings or removes images asks here. A disk fuller than `high_percent` is cleaned up (see `domain.space`)."""

    def __init__(self, ledger: Ledger, catalog: Catalog, images: Images, high_percent: float) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._images = images
        self._held: dict[str, set[str]] = {}
        self._high_percent = high_percent
        self._fresh: set[str] = set()
        self._left: set[str] = set()
        self._patience = 0
        self._rest = 0
        self._cleaners = 0
        self._cleaning: asyncio.Task[int] | None = None
        ledger.listen(self._on_change)

    def resume(self) -> None:
        """What jobs of an earlier agent have brought is not known before they are at it again; some never get that far."""
        self._patience = REST_LOOKS
        self._left = {job.id for job in self._ledger.jobs.values() if job.state is JobState.DOWNLOADING}

    def see_disk(self, disk: Disk) -> None:
        """One look at the engine's disk: what fills it needs no job of ours to be at its end."""
        self._patience -= 1
        self._left = (self._left & self._open_jobs()) - self._held.keys() if self._patience > 0 else set()
        if disk.used_percent < self._high_percent:
            self._rest = 0
        elif self._rest > 0:
            self._rest -= 1
        elif not self._left:
            self._rest = REST_LOOKS
            self._begin_to_tidy()

    def needed(self) -> set[str]:
        """Pinned names and ids that must stay."""
        versions = [version for desired in self._ledger.desired.values() for version in desired.versions]
        # After a damaged state was made anew, a release may be missing that an instance still names.
        stored = [found for v in versions if (found := self._ledger.releases.get(v.release)) is not None]
        return {pinned for each in stored for pinned in each.digests.values()}.union(*self._held.values())

    def must_be_allowed(self, image: str) -> None:
        """Images come only from, and at the cloud's word go only to, the policy's registries. Raises Refused."""
        policy = self._catalog.premises.policy
        if not allowed_registry(image, policy):
            allowed = ", ".join(policy.registries) or "none"
            hint = f"allowed registries: {allowed}; a technician adds one in gateway.yaml"
            raise Refused("admission.registry", f"{image}: its registry is off the allow-list", hint=hint)

    async def find(self, ref: str) -> ImageInfo | None:
        """The local image of a tag, pinned name or id."""
        return await self._images.find(ref)

    async def pin(self, ref: str, login: Login | None) -> str:
        """`ref` by digest: see `ports.Images.pin`."""
        return await self._images.pin(ref, login)

    async def bring(self, job: Job, pinned: str, progress: Progress, login: Login | None) -> ImageInfo:
        """Have an image here, and keep it as long as the job is open. Before it gives up for space on the engine's disk, it cleans up."""
        self._held.setdefault(job.id, set()).add(pinned)
        may_be_going = self._cleaners > 0
        found = await self._images.find(pinned)
        if found is not None and not may_be_going:
            return found
        try:
            return await self._images.pull(pinned, progress, login)
        except NoSpace as error:
            on_engine = ENGINE_FOLDER in str(error.fields.get("where", ENGINE_FOLDER))
            if not on_engine or not await self.make_room(least_bytes=lacking_bytes(error)):
                raise
        return await self._images.pull(pinned, progress, login)

    async def build(
        self, job: Job, folder: str, tag: str, how: BuildHow, progress: Progress, logins: Callable[[str], Login | None]
    ) -> ImageInfo:
        """Build an image; its bases are brought from allowed registries first, with `logins` by image.

        Raises Refused, Failed, Malformed, and what bringing them raises.
        """
        ids: dict[str, str] = {}
        for base in await self._images.bases(folder, how):
            here = await self._images.find(base)
            # A name that it was pulled by may stand for another by now, and its registry may be allowed no more.
            if here is None or read_ref(base).tagged in here.names:
                self.must_be_allowed(base)
                login = logins(base)
                here = await self.bring(job, await self._images.pin(base, login), progress, login)
            self._held.setdefault(job.id, set()).add(here.id)
            ids[base] = here.id
        built = await self._images.build(folder, tag, progress, replace(how, bases=ids))
        self._held.setdefault(job.id, set()).add(built.id)
        return built

    async def prune(self) -> int:
        """Remove at once what nothing needs, and what the gateway knew of it. The bytes as `ports.Images.prune` counts them."""
        return await self._clean(self._images.prune(self.needed)) + await self.tidy()

    async def make_room(self, spare: Collection[str] = (), least_bytes: int = 0) -> bool:
        """Remove what nothing needs, but for `spare`, before anything fails for want of room; whether there was any.

        Nothing goes in vain: not where all of it together has not `least_bytes`. What was brought last goes only where the
        rest is not enough.
        """

        def needed() -> set[str]:
            return self.needed().union(spare)

        try:
            freed_bytes = await self._clean(self._images.prune(lambda: needed() | self._fresh, least_bytes))
            if not freed_bytes and self._fresh:
                freed_bytes = await self._clean(self._images.prune(needed, least_bytes))
        except GatewayError as error:
            log.warning("no_room_made code=%s reason=%s", error.code, error)
            return False
        log.info("room_made freed_bytes=%d", freed_bytes)
        return freed_bytes > 0

    async def tidy(self) -> int:
        """Clean up as the watermarks say; what unfinished fetches left goes when no job could go on with it. As `prune`.

        What was brought last stays: somebody had it come for what follows.
        """
        try:
            freed_bytes = await self._clean(self._images.tidy(lambda: self.needed() | self._fresh, idle=self._is_idle))
        except GatewayError as error:
            log.warning("images_not_tidied code=%s reason=%s", error.code, error)
            return 0
        if freed_bytes:
            self._rest = 0
            log.info("images_tidied freed_bytes=%d", freed_bytes)
        return freed_bytes

    async def stop(self) -> None:
        """End a clean-up that is under way."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)

    async def _clean(self, work: Coroutine[Any, Any, int]) -> int:
        """Have images removed. Who looks for one meanwhile cannot rely on what was just here: see `bring`."""
        self._cleaners += 1
        try:
            return await work
        finally:
            self._cleaners -= 1

    def _on_change(self, change: Change) -> None:
        """After each job that brings images the disk may be too full, with images that nobody needs any more."""
        ended = [job for job in change.jobs if job.state.final and job.kind in BRINGING]
        for job in ended:
            if job.state is JobState.DONE:
                self._fresh = self._held.get(job.id) or self._fresh
        if any(job.state.final for job in change.jobs):
            open_jobs = self._open_jobs()
            self._held = {job: held for job, held in self._held.items() if job in open_jobs}
        if ended:
            self._begin_to_tidy()
        if change.gone:
            self._rest = 0  # at the next look its images are needed no more

    def _is_idle(self) -> bool:
        return not any(job.state in FETCHING for job in self._ledger.jobs.values())

    def _open_jobs(self) -> set[str]:
        return {job.id for job in self._ledger.jobs.values() if not job.state.final}

    def _begin_to_tidy(self) -> None:
        if self._cleaning is None or self._cleaning.done():
            self._cleaning = asyncio.create_task(self.tidy(), name="images-tidy")


def lacking_bytes(error: GatewayError) -> int:
    """The bytes that have to go before it fits; 0 where nobody has counted them."""
    fields = error.fields
    if "needed_bytes" not in fields:
        return 0
    return max(0, int(fields["needed_bytes"]) + int(fields.get("reserve_bytes", 0)) - int(fields.get("free_bytes", 0)))
