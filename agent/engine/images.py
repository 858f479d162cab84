"""`agent.ports.Images` on a Docker engine: found, pinned, pulled, pushed, built, carried, cleaned up."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import docker
import requests
from docker import auth

from agent.domain.container import ImageInfo
from agent.domain.dockerfile import BuildHow, bases
from agent.domain.imageref import Ref, is_id, is_marked, mark_tag, read_ref
from agent.domain.space import Watermarks
from agent.engine import archive
from agent.engine.builds import LABEL_BUILT, build, within_room
from agent.engine.client import EngineClient
from agent.engine.context import measure_context, read_dockerfile
from agent.engine.fence import BuildFence
from agent.engine.handover import Handover, Rooms
from agent.engine.loans import Loans
from agent.engine.observed import labels_of
from agent.engine.shelf import find_image, forget_records, look_up
from agent.engine.source import ImageSource
from agent.engine.transfer import RETRY_WAITS_S, LayerProgress, transfer, with_retries
from agent.errors import Conflict, Failed, NotFound, TimedOut, Unauthorised, Unreachable
from agent.ports import Login, Progress

HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True)
class ImageRules:
    """`mark` begins the tag that pulled images get (see `imageref.mark_tag`); `prune` removes only those and what was
    built here and lost its name. `stall_s`: a push without a byte for so long is given up and tried again.
    """

    mark: str = "ec"
    stall_s: float = 60.0
    retry_waits_s: Sequence[float] = RETRY_WAITS_S
    watermarks: Watermarks = field(default_factory=Watermarks)
    rooms: Rooms = field(default_factory=Rooms)
    fence: BuildFence = field(default_factory=BuildFence)


def nobody(registry: str) -> Login | None:
    """No login for any registry."""
    del registry
    return None


class DockerImages:
    """The engine's images, fetched by `source`. `logins` tells who the gateway is at a registry, for pushing."""

    def __init__(
        self,
        socket_path: str,
        source: ImageSource,
        rules: ImageRules | None = None,
        logins: Callable[[str], Login | None] = nobody,
    ) -> None:
        self._client = EngineClient(socket_path)
        self._source = source
        self._loans = Loans(self._client)
        self._logins = logins
        self._rules = rules = rules or ImageRules()
        self._mark = rules.mark
        self._going = asyncio.Lock()
        self._handover = Handover(self._client, source, rules.mark, rules.rooms, rules.watermarks.reserve_bytes)

    def close(self) -> None:
        """Let the threads go."""
        self._source.close()
        self._client.close()

    async def free_bytes(self) -> int:
        """What the engine's disk has left."""
        return (await self._handover.disk()).free_bytes

    async def find(self, ref: str) -> ImageInfo | None:
        """The local image of this tag, digest or id; None when it is not here. Tags that are lent to it are not told."""
        records, lent = self._source.records, self._loans.tags()
        found = await self._client.call(f"looking for image {ref}", lambda c: find_image(c, records, ref, self._mark))
        lent |= self._loans.tags()
        return found and replace(found, tags=tuple(tag for tag in found.tags if tag not in lent))

    async def pin(self, ref: str, login: Login | None = None) -> str:
        """`ref` as ``repo@sha256:...`` by asking its registry; where that cannot tell, the local image if there is one.

        A name without a registry that was built or loaded here is taken as it is, without asking the Docker Hub. A
        one-time `login` that the registry refuses is Unauthorised, whatever is here.
        """
        if is_id(ref):
            return (await self._require(ref)).id
        name = read_ref(ref)
        if name.digest:
            return name.pinned
        local = await self.find(ref)
        if local is not None and self._pulled_as(ref, local):
            local = None  # it was only pulled by that name, which may stand for another by now
        if local is not None and not name.registry and not _digests_in(local, name.repository):
            return local.id
        try:
            return f"{name.repository}@{await self._source.resolve(name, login)}"
        except (NotFound, Unauthorised, Unreachable, TimedOut) as error:
            if local is None or (login is not None and isinstance(error, Unauthorised)):
                raise
            return next(iter(_digests_in(local, name.repository)), local.id)

    async def pull(self, pinned: str, progress: Progress, login: Login | None = None) -> ImageInfo:
        """Bring ``repo@sha256:...`` here unless it is; progress in bytes. What arrives is verified and tagged.

        Raises NotFound, Unauthorised, Unreachable and TimedOut (after several tries), NoSpace, Failed.
        """
        if is_id(pinned):
            async with self._going:
                return await self._require(pinned)
        name = read_ref(pinned)
        if not name.digest:
            raise Failed("image.not_pinned", f"{pinned} names no digest", hint="pin it first")
        async with self._going:  # what a clean-up is just removing is here no more
            found = await self.find(name.pinned)
        if found is None:
            await self._handover.bring(name, progress, login)
            found = await self.find(name.pinned)
        if found is None or name.pinned not in found.digests:
            raise Failed(
                "image.digest_mismatch",
                f"pulling {name.pinned}: what the engine made of it is not what was asked for",
                hint="pull again",
            )
        tag = mark_tag(name.digest, self._mark)
        if f"{name.repository}:{tag}" in found.tags:
            return found
        # Only now is it safe from `docker image prune`, and people see a name.
        await self._client.call(f"tagging {name.pinned}", lambda c: c.tag(found.id, name.repository, tag))
        return await self._require(name.pinned)

    async def remember(self, name: str, pinned: str) -> None:
        """People pulled the image `pinned` as `name`, and may call it so; what runs is never found by that."""
        asked, digest = read_ref(name), pinned.partition("@")[2]
        if asked.tag and digest:
            records = self._source.records
            before = await self.find(asked.tagged)
            names = await self._client.call(f"looking what {name} is", lambda _: records.names())
            led_to = names.get(asked.tagged, digest)
            if before is not None and led_to != digest and asked.tagged in before.names and asked.tagged in before.tags:
                # Lent to what the name led to, and left by a kill: the engine would go on finding that by it.
                await self._loans.take_away(asked.tagged)
            await self._client.call(f"remembering {name}", lambda _: records.keep_name(asked.tagged, digest))

    async def push(self, ref: str, progress: Progress, login: Login | None = None) -> str:
        """Send the local image `ref` to its registry; the digest it has there. `login` as in `pin`."""
        name = read_ref(ref)
        layers = LayerProgress(progress, "pushing")

        def request(api: docker.APIClient) -> requests.Response:
            path = f"/images/{name.repository}/push"
            return self._post(api, path, {"tag": name.tag}, headers=self._auth_header(name, login))

        async def attempt() -> None:
            await transfer(self._client, f"pushing {ref}", request, layers.take, stall_s=self._rules.stall_s)

        async with self._lent(ref, await self._require(ref)):
            await with_retries(attempt, self._rules.retry_waits_s)
        layers.tell()
        if not layers.digest:
            raise Failed("image.no_digest", f"pushing {ref}: the registry told no digest", hint="push again")
        return layers.digest

    async def bases(self, folder: str, how: BuildHow) -> tuple[str, ...]:
        """The images that a folder's Dockerfile builds on. NotFound, Malformed."""
        return bases(await asyncio.to_thread(read_dockerfile, Path(folder), how), how)

    async def build(self, folder: str, tag: str, progress: Progress, how: BuildHow) -> ImageInfo:
        """An image from `folder` and its Dockerfile, whose bases are in `how`: see `builds.build`.

        NoSpace when there is no room for its context; Failed when it takes up the reserve on the way.
        """
        read_ref(tag)
        await asyncio.to_thread(read_dockerfile, Path(folder), how)
        context_bytes = await asyncio.to_thread(measure_context, Path(folder), how)
        # The engine spools the context, and a layer may hold it once more.
        await self._handover.require_room(2 * context_bytes + 1)
        driver = (await self._handover.engine()).cgroup_driver
        parent = await asyncio.to_thread(self._rules.fence.put_up, driver)
        building = build(self._client, folder, tag, progress, how, parent)
        await within_room(building, tag, self._handover.require_room)
        await self._handover.sync()
        return await self._require(tag)

    async def load(self, path: str) -> list[str]:
        """Take the images of an archive that `save` or ``docker save`` wrote; their tags, or ids where they have none.

        NoSpace before a byte is sent when the engine has no room for them.
        """
        await self._handover.require_room(await asyncio.to_thread(archive.measure_load, Path(path)))
        loaded = await archive.load(self._client, Path(path), self._rules.stall_s)
        await self._handover.sync()
        return loaded

    async def save(self, refs: Sequence[str], path: str) -> int:
        """Write images into one archive; its bytes. The file appears when it is whole."""
        async with contextlib.AsyncExitStack() as lent:
            # A pinned name is this gateway's; the engine, and whoever loads the archive, know the tag.
            names = [await lent.enter_async_context(self._lent(ref, await self._require(ref))) for ref in refs]
            return await archive.save(self._client, names, Path(path), self._rules.stall_s)

    async def list(self) -> builtins.list[ImageInfo]:
        """All images of the engine."""
        rows = await self._client.call("listing images", lambda c: c.images())
        found = await asyncio.gather(*(self.find(str(row["Id"])) for row in rows))
        return [image for image in found if image is not None]

    async def remove(self, ref: str) -> None:
        """Take a tag away, and the image with its last one; by digest or id, with all its tags. Conflict when used.

        The last name that people pulled it by takes the tags with it that it got here.
        """
        image = await self._require(ref)
        name = _tagged(ref)
        pulled = name in image.names
        if image.names == (name,):
            names = [tag for tag in image.tags if self._is_ours(tag, image)] if image.tags else [image.id]
        elif pulled or name in image.tags:
            names = [name] if name in image.tags else []
        else:
            names = [*image.tags] or [image.id]
        if names and set(image.tags) <= set(names):
            await self._require_unused(ref, image)
        for each in names:
            await self._client.call(f"removing image {each}", partial(_remove, name=each), within_s=120, slow=True)
        if pulled:
            await self._forget_name(name)

    async def prune(self, keep: Callable[[], Collection[str]], least_bytes: int = 0) -> int:
        """Remove what this gateway pulled or built and neither `keep` (tags, digests, ids) nor a container needs.

        `keep` is asked anew for each: a job may have come to need it meanwhile, and `pull` then says whether it is here.
        Images that carry anybody else's tag stay. The answer is the images' sizes in bytes, shared layers counted. None goes
        where all of them together have not `least_bytes`.
        """
        freed_bytes, leftovers = 0, await self._leftovers()
        if least_bytes and sum(i.size_bytes for i in leftovers if not _is_kept(i, keep())) < least_bytes:
            return 0
        for image in leftovers:
            freed_bytes += await self._let_go(image, keep)
        return freed_bytes

    async def tidy(self, keep: Callable[[], Collection[str]], *, idle: Callable[[], bool]) -> int:
        """As `prune`, but only while the engine's disk is above the high mark, oldest first, until it is below the low one.

        `idle`: no fetch is open, so that what unfinished ones left goes too; asked anew when the images are gone, which may
        take minutes. The bytes as `prune` counts them.
        """
        freed_bytes = await self._source.clean() if idle() else 0
        if (await self._handover.disk()).used_percent >= self._rules.watermarks.high_percent:
            for image in await self._leftovers():
                freed_bytes += await self._let_go(image, keep)
                if (await self._handover.disk()).used_percent < self._rules.watermarks.low_percent:
                    break
        if idle():
            await self._forget_records()
        return freed_bytes

    # -- inside -------------------------------------------------------------------------------------------------

    def _pulled_as(self, ref: str, image: ImageInfo) -> str:
        """`ref` in full, where it is the name that people pulled the image by and no tag of the engine's; else ""."""
        name = _tagged(ref)
        return name if name in image.names and name not in image.tags else ""

    def _is_ours(self, tag: str, image: ImageInfo) -> bool:
        """Whether this gateway gave the image the tag: its mark's, or one lent to it that a kill left."""
        return is_marked(tag, self._mark) or tag in image.names

    async def _forget_name(self, name: str) -> None:
        records = self._source.records
        await self._client.call(
            f"forgetting the name {name}", lambda _: records.forget_names({name: records.names().get(name, "")})
        )

    @contextlib.asynccontextmanager
    async def _lent(self, ref: str, image: ImageInfo) -> AsyncIterator[str]:
        """The name that the engine knows the image by, `ref` itself where it can be: what people pulled as is its tag meanwhile."""
        tag = self._pulled_as(ref, image)
        if not tag:
            yield ref if ref in image.tags else next(iter(image.tags), image.id)
            return
        async with self._loans.lend(image.id, tag):
            yield tag

    async def _require(self, ref: str) -> ImageInfo:
        found = await self.find(ref)
        if found is None:
            raise NotFound("image.not_found", f"no image {ref} on the engine", hint="pull, load or build it first")
        return found

    async def _require_unused(self, ref: str, image: ImageInfo) -> None:
        if image.id in await self._in_use():
            raise Conflict("image.in_use", f"a container uses {ref}", hint="remove the APP first")
        if not self._loans.tags().isdisjoint(image.names):
            raise Conflict("image.in_use", f"{ref} is being pushed or saved", hint="wait for its job, or cancel it")

    async def _in_use(self) -> set[str]:
        rows = await self._client.call("listing what uses images", lambda c: c.containers(all=True))
        return {str(row["ImageID"]) for row in rows}

    async def _leftovers(self) -> builtins.list[ImageInfo]:
        """What may go unless it is kept, oldest first."""
        users = await self._in_use()
        images = sorted(await self.list(), key=lambda image: image.created)
        return [image for image in images if image.id not in users and await self._is_our_leftover(image)]

    async def _let_go(self, image: ImageInfo, keep: Callable[[], Collection[str]]) -> int:
        async with self._going:
            if _is_kept(image, keep()):
                return 0
            try:
                await self.remove(image.id)
            except (Conflict, NotFound):
                return 0  # a container or a child image came meanwhile
        return image.size_bytes

    async def _forget_records(self) -> None:
        """Manifests of images that are gone."""
        records = self._source.records
        known = await self._client.call("reading what is on record", lambda _: look_up(records))
        images = await self.list()
        await self._client.call("looking through the manifests", lambda _: forget_records(records, known, images))

    async def _is_our_leftover(self, image: ImageInfo) -> bool:
        if image.tags:
            return all(self._is_ours(tag, image) for tag in image.tags)
        document = await self._client.call(f"inspecting image {image.id}", partial(_inspect, ref=image.id))
        return LABEL_BUILT in labels_of(document)

    def _auth_header(self, name: Ref, login: Login | None) -> dict[str, str]:
        credential = login or self._logins(name.registry or HUB)
        # An empty one is not left out: a push without the header is refused by older engines.
        config = _auth_config(name.registry, credential) if credential else {}
        return {"X-Registry-Auth": auth.encode_header(config).decode()}

    def _post(
        self,
        api: docker.APIClient,
        path: str,
        params: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        stall_s: float = 0.0,
    ) -> requests.Response:
        timeout = stall_s or self._rules.stall_s
        url = self._client.url(api, path)
        return api.post(url, params=dict(params), headers=dict(headers or {}), data=data, stream=True, timeout=timeout)


def _auth_config(registry: str, credential: Login) -> dict[str, str]:
    return {"username": credential.username, "password": credential.password, "serveraddress": registry}


def _inspect(client: docker.APIClient, ref: str) -> Mapping[str, Any]:
    return dict(client.inspect_image(ref))  # type: ignore[no-untyped-call]


def _remove(client: docker.APIClient, name: str) -> None:
    client.remove_image(name)


def _tagged(ref: str) -> str:
    """A tag in full; "" for what names a digest or an id."""
    return "" if "@" in ref or is_id(ref) else read_ref(ref).tagged


def _is_kept(image: ImageInfo, keep: Collection[str]) -> bool:
    kept = {ref.partition("@")[2] or ref for ref in keep}
    return not kept.isdisjoint((image.id, *image.tags, *(d.partition("@")[2] for d in image.digests)))


def _digests_in(image: ImageInfo, repository: str) -> list[str]:
    return [d for d in image.digests if d.partition("@")[0] == repository]
