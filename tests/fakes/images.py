"""Images in memory: a registry's shelf (`publish`) and the gateway's own (`add`)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.domain.container import ImageInfo
from agent.domain.dockerfile import BuildHow, bases
from agent.errors import Conflict, GatewayError, Malformed, NotFound, Unauthorised
from agent.ports import Login, Progress
from tests.fakes.faults import Faults

_SIZE_BYTES = 2_000_000


def digest_of(text: str) -> str:
    """A digest that stands for `text`."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class FakeImages:
    """`agent.ports.Images` in memory.

    `publish(ref)` puts a tag on the registry (again with another `content`: the tag moves); `add(ref)` puts an image
    on the gateway without a registry. `left_bytes`: what unfinished fetches left; `when_gone` is called for each that a
    clean-up removed.
    `in_use` holds image ids that containers use. `lock(registry, login)`: that
    registry answers nobody else from now on. `brings` maps a pinned name to what its image says of itself.
    """

    def __init__(self, *refs: str) -> None:
        self.faults = Faults()
        self.log: list[tuple[str, str]] = []
        self.in_use: set[str] = set()
        self.disk_is_full = False
        self.tidied: list[bool] = []
        self.left_bytes = 0
        self.when_gone: Callable[[], None] = lambda: None
        self._going = asyncio.Lock()
        self.brings: dict[str, dict[str, Any]] = {}
        self._locks: dict[str, Login] = {}
        self._registry: dict[str, str] = {}
        self._shelf: set[str] = set()
        self._names: dict[str, str] = {}
        self._local: dict[str, ImageInfo] = {}
        self._archives: dict[str, list[ImageInfo]] = {}
        for ref in refs:
            self.publish(ref)

    # -- for tests ----------------------------------------------------------------------------------------------

    def publish(self, ref: str, content: str = "") -> str:
        """The registry has `ref` now; its pinned form is returned."""
        repository = ref.rpartition(":")[0] if ":" in ref.rpartition("/")[2] else ref
        self._registry[ref] = f"{repository}@{digest_of(ref + content)}"
        self._shelf.add(self._registry[ref])
        return self._registry[ref]

    def add(self, ref: str, content: str = "") -> ImageInfo:
        """The gateway has a local image `ref` that no registry knows."""
        image = self._image(digest_of("local " + ref + content), tags=(ref,))
        self._local[image.id] = image
        return image

    def bring(self, ref: str, digest: str) -> None:
        """The image of a digest can be had from what was brought along; no registry knows `ref`."""
        self._registry.pop(ref, None)
        self._shelf.add(f"{ref.rpartition(':')[0]}@{digest}")

    def lock(self, registry: str, login: Login) -> None:
        """The registry wants this login."""
        self._locks[registry] = login

    def fail_next(self, op: str, error: GatewayError, times: int = 1) -> None:
        """The next `times` calls of `op` raise `error`."""
        self.faults.fail_next(op, error, times)

    def local(self) -> list[ImageInfo]:
        """What the gateway has now."""
        return list(self._local.values())

    def require(self, ref: str) -> ImageInfo:
        """The local image; NotFound as the engine says it."""
        found = self._find(ref)
        if found is None:
            raise NotFound("image.not_found", f"no such image: {ref}")
        return found

    # -- agent.ports.Images -------------------------------------------------------------------------------------

    async def find(self, ref: str) -> ImageInfo | None:
        """The local image of this tag, digest or id."""
        await self._call("find", ref)
        return self._find(ref)

    async def pin(self, ref: str, login: Login | None = None) -> str:
        """The registry's digest, or the local image's id."""
        await self._call("pin", ref)
        if "@sha256:" in ref:
            return ref
        self._admit(ref, login)
        return self._registry.get(ref) or self.require(ref).id

    async def pull(self, pinned: str, progress: Progress, login: Login | None = None) -> ImageInfo:
        """Bring the image here."""
        await self._call("pull", pinned)
        async with self._going:
            found = self._find(pinned)
        if found is not None:
            return found
        self._admit(pinned, login)
        if pinned not in self._shelf:
            raise NotFound("image.not_found", f"the registry does not have {pinned}")
        progress(0, _SIZE_BYTES, "downloading")
        await self.faults.pass_through("pull progress")
        progress(_SIZE_BYTES, _SIZE_BYTES, "downloading")
        image = self._image(digest_of("config of " + pinned), digests=(pinned,))
        image = replace(image, **self.brings.get(pinned, {}))
        self._local[image.id] = image
        return image

    async def remember(self, name: str, pinned: str) -> None:
        """People call it so from now on."""
        await self._call("remember", name)
        if "@" in pinned and "@" not in name:
            self._names[name] = pinned

    async def push(self, ref: str, progress: Progress, login: Login | None = None) -> str:
        """The registry has the local image `ref` now; its digest is returned."""
        await self._call("push", ref)
        image = self.require(ref)
        self._admit(ref, login)
        pinned = self.publish(ref, image.id)
        self._local[image.id] = replace(image, digests=(*image.digests, pinned))
        progress(_SIZE_BYTES, _SIZE_BYTES, "pushing")
        return pinned.partition("@")[2]

    async def bases(self, folder: str, how: BuildHow) -> tuple[str, ...]:
        """What the folder's real Dockerfile names; nothing where there is none."""
        await self._call("bases", folder)

        def look() -> tuple[str, ...]:
            path = Path(folder) / how.dockerfile
            return bases(path.read_text(), how) if path.is_file() else ()

        return await asyncio.to_thread(look)

    async def build(self, folder: str, tag: str, progress: Progress, how: BuildHow) -> ImageInfo:
        """An image named `tag`, whatever is in the folder."""
        await self._call("build", tag)
        progress(0, 0, f"built from {folder}")
        return self.add(tag, folder)

    async def load(self, path: str) -> list[str]:
        """The images that `save` put at `path`."""
        await self._call("load", path)
        if path not in self._archives:
            raise Malformed("image.archive_not_found", f"no archive at {path}")
        for image in self._archives[path]:
            self._local[image.id] = image
        return [tag for image in self._archives[path] for tag in image.tags]

    async def save(self, refs: Sequence[str], path: str) -> int:
        """Remember the images under `path`; the size in bytes."""
        await self._call("save", path)
        self._archives[path] = [self.require(ref) for ref in refs]
        return _SIZE_BYTES * len(refs)

    async def list(self) -> list[ImageInfo]:
        """All local images."""
        await self._call("list", "")
        return [image for id_ in self._local if (image := self._find(id_)) is not None]

    async def remove(self, ref: str) -> None:
        """Remove a local image."""
        await self._call("remove", ref)
        image = self.require(ref)
        if image.id in self.in_use:
            raise Conflict("image.in_use", f"a container uses {ref}")
        self._names.pop(ref, None)
        if ref in image.names and len(image.names) > 1:
            return
        del self._local[image.id]

    async def prune(self, keep: Callable[[], Collection[str]], least_bytes: int = 0) -> int:
        """Remove pulled images that are neither kept nor used; the bytes they held. It pauses at ``let go`` before each."""
        await self._call("prune", "")

        def kept() -> set[str]:
            return {found.id for ref in keep() if (found := self._find(ref)) is not None} | self.in_use

        freed_bytes, pulled = 0, [image for image in self._local.values() if image.digests]
        if least_bytes and sum(image.size_bytes for image in pulled if image.id not in kept()) < least_bytes:
            return 0
        for image in pulled:
            async with self._going:
                if image.id in kept() or image.id not in self._local:
                    continue
                await self.faults.pass_through("let go")
                del self._local[image.id]
            freed_bytes += image.size_bytes
            self.when_gone()
        return freed_bytes

    async def tidy(self, keep: Callable[[], Collection[str]], *, idle: Callable[[], bool]) -> int:
        """As `prune`, if `disk_is_full`."""
        self.tidied.append(idle())
        left_bytes, self.left_bytes = (self.left_bytes, 0) if idle() else (0, self.left_bytes)
        return left_bytes + (await self.prune(keep) if self.disk_is_full else 0)

    # -- inside -------------------------------------------------------------------------------------------------

    def _admit(self, ref: str, login: Login | None) -> None:
        wanted = self._locks.get(ref.partition("/")[0])
        if wanted is not None and login != wanted:
            raise Unauthorised("image.unauthorised", f"the registry refuses {ref}", hint="give credentials for it")

    async def _call(self, op: str, subject: str) -> None:
        await asyncio.sleep(0)
        await self.faults.pass_through(op)
        self.log.append((op, subject))

    def _find(self, ref: str) -> ImageInfo | None:
        for name in (ref, self._names.get(ref, ref)):
            for image in self._local.values():
                if name == image.id or name in image.tags or name in image.digests:
                    names = tuple(known for known, pinned in self._names.items() if pinned in image.digests)
                    return replace(image, names=names)
        return None

    @staticmethod
    def _image(image_id: str, tags: tuple[str, ...] = (), digests: tuple[str, ...] = ()) -> ImageInfo:
        return ImageInfo(image_id, tags, digests, _SIZE_BYTES, "amd64", "2026-01-01T00:00:00Z")
