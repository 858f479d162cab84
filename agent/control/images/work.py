"""Commands about images: long ones are jobs of the runner, short ones are done at once."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

from agent.control.images.stock import ImageStock
from agent.control.inbox import Act, Decide, Read
from agent.control.jobs.maker import MOST_WAITING, NO_TIME, REGISTRIES, JobMaker, accepted
from agent.control.jobs.runner import Told, Work
from agent.control.jobs.vault import Vault
from agent.control.ledger import Ledger
from agent.domain.command import Command, Job, JobState, Origin, Reply
from agent.domain.dockerfile import BuildHow
from agent.domain.journal import Change
from agent.domain.params import Build, Credentials, Image, Load, Nothing, Params, Save
from agent.errors import Busy, Conflict, NoSpace, NoSpaceThere, NotFound
from agent.ports import Images, Progress

LONG = ("image.pull", "image.push", "image.build", "image.load", "image.save")


class ImageWork:
    """`decisions` start jobs, `kinds` are their work, `acts` are short."""

    def __init__(self, ledger: Ledger, stock: ImageStock, images: Images, maker: JobMaker, vault: Vault) -> None:
        self._ledger = ledger
        self._stock = stock
        self._images = images
        self._maker = maker
        self._vault = vault
        self.decisions: dict[str, Decide] = dict.fromkeys(LONG, self.begin)
        self.kinds: dict[str, Work] = {
            "image.pull": self.pull,
            "image.push": self.push,
            "image.build": self.build,
            "image.load": self.load,
            "image.save": self.save,
        }
        self.acts: dict[str, Act] = {"image.remove": self.remove, "image.prune": self.prune}
        self.reads: dict[str, Read] = {"image.list": self.list}

    def begin(self, command: Command, params: Params) -> tuple[Change, Reply]:
        """A job for one of the long commands."""
        leaves = command.type == "image.push" and command.origin is not Origin.LOCAL
        if isinstance(params, Image) and (command.type == "image.pull" or leaves):
            self._stock.must_be_allowed(params.image)
        job = self._maker.make(command, command.type, params, params.model_dump(exclude=NO_TIME))
        logins = params.credentials if isinstance(params, Credentials) else {}
        open_jobs = self._ledger.open_jobs("")
        again = self._maker.take_up(command, job, open_jobs, logins)
        if again is not None:
            return again
        # Each holds a row and a task, also those that wait for a day or for a dead registry.
        if len(open_jobs) >= MOST_WAITING:
            hint = "wait, or cancel some (see `ecgw job list`)"
            raise Busy("job.too_many", f"{MOST_WAITING} jobs about images are open", hint=hint)
        self._maker.keep_logins(job, logins)
        job = self._maker.held(job) or job
        return Change(jobs=(job,)), accepted(command, job)

    async def pull(self, job: Job, told: Told) -> None:
        """Fetch an image by the digest its registry gives now."""
        image = str(job.params["image"])
        login = self._vault.login(job.id, image)
        await self._ledger.move_job(job.id, JobState.DOWNLOADING, "asking for the image")
        pinned = await self._images.pin(image, login)
        await self._stock.bring(job, pinned, _percent(told), login)
        await self._images.remember(image, pinned)
        await self._done(job, pinned)

    async def push(self, job: Job, told: Told) -> None:
        """Push an image to the registry its name says."""
        image = str(job.params["image"])
        await self._done(job, await self._images.push(image, _percent(told), self._vault.login(job.id, image)))

    async def build(self, job: Job, told: Told) -> None:
        """Build a folder's Dockerfile, without network."""
        params = Build.model_validate({key: value for key, value in job.params.items() if key != REGISTRIES})
        folder = await asyncio.to_thread(os.path.realpath, params.folder)
        how = BuildHow(params.dockerfile, params.args, params.target)
        logins = partial(self._vault.login, job.id)
        info = await self._stock.build(job, folder, params.tag, how, _percent(told), logins)
        await self._done(job, info.id)

    async def load(self, job: Job, told: Told) -> None:
        """Load an archive."""
        await self._done(job, ", ".join(await self._images.load(Load.model_validate(job.params).path)))

    async def save(self, job: Job, told: Told) -> None:
        """Save images into an archive. A person waits for it: where there is no room it ends, and is not tried again."""
        params = Save.model_validate(job.params)
        try:
            size = await self._images.save(params.images, params.path)
        except NoSpace as error:
            hint = error.hint or "free space there, or name a file on a larger disk or stick"
            raise NoSpaceThere(error.code, error.message, hint=hint, **error.fields) from error
        await self._done(job, f"{size} bytes in {params.path}")

    async def remove(self, command: Command, params: Image) -> Any:
        """Remove an image that no instance runs or may go back to."""
        found = await self._images.find(params.image)
        if found is None:
            raise NotFound("image.unknown", f"there is no image '{params.image}' here", hint="see `ecgw image list`")
        needed = self._stock.needed()
        if needed & {found.id, *found.digests, *found.tags}:
            raise Conflict(
                "image.in_use", f"{params.image} is what an APP runs or may go back to", hint="remove the APP"
            )
        await self._images.remove(params.image)
        return {"removed": params.image}

    async def prune(self, command: Command, params: Nothing) -> Any:
        """Remove what nothing needs."""
        return {"freed_bytes": await self._stock.prune()}

    async def list(self, params: Nothing) -> Any:
        """All images, with those in use marked."""
        needed = self._stock.needed()
        return [
            {
                "id": i.id,
                "tags": tuple(dict.fromkeys((*i.names, *i.tags))),
                "digests": i.digests,
                "size_bytes": i.size_bytes,
                "architecture": i.architecture,
                "created": i.created,
                "in_use": bool(needed & {i.id, *i.digests}),
            }
            for i in await self._images.list()
        ]

    async def _done(self, job: Job, message: str) -> None:
        await self._ledger.move_job(job.id, JobState.DONE, message, 100)


def _percent(told: Told) -> Progress:
    def progress(done: int, total: int, what: str) -> None:
        told(int(100 * done / total) if total else 0, what, done, total)

    return progress
