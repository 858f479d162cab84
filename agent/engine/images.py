"""`agent.ports.Images` on a Docker engine: found, pinned, pulled, pushed, built, carried, cleaned up."""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import docker
import requests
from docker import auth
from docker import errors as docker_errors

from agent.domain.container import ImageInfo
from agent.engine import archive
from agent.engine.client import EngineClient
from agent.engine.context import pack_context
from agent.engine.observed import labels_of, read_image
from agent.engine.refs import Ref, is_id, is_marked, mark_tag, read_ref
from agent.engine.transfer import RETRY_WAITS_S, LayerProgress, Line, transfer, with_retries
from agent.engine.translate import as_transfer
from agent.errors import Conflict, Failed, NotFound, TimedOut, Unauthorised, Unreachable
from agent.ports import Login, Progress

LABEL_BUILT: Final = "ec.built"
_PIN_WITHIN_S: Final = 30.0
_BUILD_STALL_S: Final = 900.0
_BUILD_MEM_BYTES: Final = 1024**3


class DockerImages:
    """The engine's images. `credentials` per registry host as in an image's name (``registry.example:5000``).

    `mark` begins the tag that pulled images get (see `refs.mark_tag`); `prune` removes only those and what was built
    here and lost its name. `stall_s`: a transfer without a byte for so long is given up and tried again.
    """

    def __init__(
        self,
        socket_path: str,
        *,
        credentials: Mapping[str, Login] | None = None,
        mark: str = "ec",
        stall_s: float = 60.0,
        retry_waits_s: Sequence[float] = RETRY_WAITS_S,
    ) -> None:
        self._client = EngineClient(socket_path)
        self._credentials = dict(credentials or {})
        self._mark = mark
        self._stall_s = stall_s
        self._retry_waits_s = tuple(retry_waits_s)

    def close(self) -> None:
        """Let the threads go."""
        self._client.close()

    async def find(self, ref: str) -> ImageInfo | None:
        """The local image of this tag, digest or id; None when it is not here."""

        def find(client: docker.APIClient) -> ImageInfo | None:
            try:
                return read_image(_inspect(client, ref))
            except docker_errors.NotFound:
                return None

        return await self._client.call(f"looking for image {ref}", find)

    async def pin(self, ref: str, login: Login | None = None) -> str:
        """`ref` as ``repo@sha256:...`` by asking its registry; where that cannot tell, the local image if there is one.

        A name without a registry that was built or loaded here is taken as it is, without asking the Docker Hub.
        """
        if is_id(ref):
            return (await self._require(ref)).id
        name = read_ref(ref)
        if name.digest:
            return name.pinned
        local = await self.find(ref)
        if local is not None and not name.registry and not _digests_in(local, name.repository):
            return local.id
        try:
            return f"{name.repository}@{await self._ask_registry(name, login)}"
        except (NotFound, Unauthorised, Unreachable, TimedOut):
            if local is None:
                raise
            return next(iter(_digests_in(local, name.repository)), local.id)

    async def pull(self, pinned: str, progress: Progress, login: Login | None = None) -> ImageInfo:
        """Bring ``repo@sha256:...`` here unless it is; progress in bytes. What arrives is verified and tagged.

        Raises NotFound, Unauthorised, Unreachable and TimedOut (after several tries), NoSpace, Failed.
        """
        if is_id(pinned):
            return await self._require(pinned)
        name = read_ref(pinned)
        if not name.digest:
            raise Failed("image.not_pinned", f"{pinned} names no digest", hint="pin it first")
        doing = f"pulling {name.pinned}"
        found = await self.find(name.pinned)
        if found is None:

            def request(api: docker.APIClient) -> requests.Response:
                params = {"fromImage": name.repository, "tag": name.digest}
                return self._post(api, "/images/create", params, headers=self._auth_header(name, login))

            async def attempt() -> None:
                layers = LayerProgress(progress, "downloading")
                await transfer(self._client, doing, request, layers.take, stall_s=self._stall_s)
                layers.tell()

            await with_retries(attempt, self._retry_waits_s)
            found = await self.find(name.pinned)
        if found is None or name.pinned not in found.digests:
            raise Failed("image.digest_mismatch", f"{doing}: what arrived is not what was asked for", hint="pull again")
        tag = mark_tag(name.digest, self._mark)
        if f"{name.repository}:{tag}" in found.tags:
            return found
        # Only now is it safe from `docker image prune`, and people see a name.
        await self._client.call(f"tagging {name.pinned}", lambda c: c.tag(found.id, name.repository, tag))
        return await self._require(name.pinned)

    async def push(self, ref: str, progress: Progress) -> str:
        """Send the local image `ref` to its registry; the digest it has there."""
        name = read_ref(ref)
        layers = LayerProgress(progress, "pushing")

        def request(api: docker.APIClient) -> requests.Response:
            path = f"/images/{name.repository}/push"
            return self._post(api, path, {"tag": name.tag}, headers=self._auth_header(name))

        async def attempt() -> None:
            await transfer(self._client, f"pushing {ref}", request, layers.take, stall_s=self._stall_s)

        await self._require(ref)
        await with_retries(attempt, self._retry_waits_s)
        layers.tell()
        if not layers.digest:
            raise Failed("image.no_digest", f"pushing {ref}: the registry told no digest", hint="push again")
        return layers.digest

    async def build(self, folder: str, tag: str, progress: Progress) -> ImageInfo:
        """An image from `folder` and its Dockerfile, without network, its base images from here if they are.

        `progress` is given each line of the build's own output. Raises Failed with the failing step's words.
        """
        read_ref(tag)
        written: list[str] = []

        def take(line: Line) -> None:
            for text in str(line.get("stream", "")).splitlines():
                if text.strip():
                    written.append(text)
                    del written[:-20]
                    progress(0, 0, text)

        def request(api: docker.APIClient) -> requests.Response:
            params = {
                "t": tag,
                "rm": "1",
                "forcerm": "1",
                "networkmode": "none",
                "memory": str(_BUILD_MEM_BYTES),
                "memswap": str(_BUILD_MEM_BYTES),
                "labels": json.dumps({LABEL_BUILT: "1"}),
            }
            with pack_context(Path(folder)) as context:
                return self._post(api, "/build", params, data=context, stall_s=_BUILD_STALL_S)

        try:
            await transfer(self._client, f"building {tag}", request, take, stall_s=_BUILD_STALL_S)
        except Failed as error:
            said = next((t for t in reversed(written) if not t.startswith((" --->", "Removing intermediate"))), "")
            raise Failed(
                "image.build_failed", error.message, hint=f"the build's last line was: {said}", output=written
            ) from error
        return await self._require(tag)

    async def load(self, path: str) -> list[str]:
        """Take the images of an archive that `save` or ``docker save`` wrote; their tags, or ids where they have none."""
        return await archive.load(self._client, Path(path), self._stall_s)

    async def save(self, refs: Sequence[str], path: str) -> int:
        """Write images into one archive; its bytes. The file appears when it is whole."""
        for ref in refs:
            await self._require(ref)
        return await archive.save(self._client, refs, Path(path), self._stall_s)

    async def list(self) -> builtins.list[ImageInfo]:
        """All images of the engine."""
        rows = await self._client.call("listing images", lambda c: c.images())
        found = await asyncio.gather(*(self.find(str(row["Id"])) for row in rows))
        return [image for image in found if image is not None]

    async def remove(self, ref: str) -> None:
        """Take a tag away, and the image with its last one; by digest or id, with all its tags. Conflict when used."""
        image = await self._require(ref)
        names = [ref] if ref in image.tags else [*image.tags] or [image.id]
        users = await self._in_use()
        if image.id in users and set(image.tags) <= set(names):
            raise Conflict("image.in_use", f"a container uses {ref}", hint="remove the APP first")
        for name in names:
            await self._client.call(f"removing image {name}", partial(_remove, name=name), within_s=120, slow=True)

    async def prune(self, keep: Sequence[str]) -> int:
        """Remove what this gateway pulled or built and neither `keep` (tags, digests, ids) nor a container needs.

        Images that carry anybody else's tag stay. The answer is the images' sizes in bytes, shared layers counted.
        """
        users = await self._in_use()
        freed_bytes = 0
        for image in await self.list():
            if image.id in users or not set(keep).isdisjoint((image.id, *image.tags, *image.digests)):
                continue
            if not await self._is_our_leftover(image):
                continue
            try:
                await self.remove(image.id)
            except (Conflict, NotFound):
                continue  # a container or a child image came meanwhile
            freed_bytes += image.size_bytes
        return freed_bytes

    # -- inside -------------------------------------------------------------------------------------------------

    async def _require(self, ref: str) -> ImageInfo:
        found = await self.find(ref)
        if found is None:
            raise NotFound("image.not_found", f"no image {ref} on the engine", hint="pull, load or build it first")
        return found

    async def _ask_registry(self, name: Ref, login: Login | None) -> str:
        credential = login or self._credentials.get(name.registry)
        config = _auth_config(name.registry, credential) if credential else None

        def ask(client: docker.APIClient) -> str:
            found = client.inspect_distribution(  # type: ignore[no-untyped-call]
                f"{name.repository}:{name.tag}", auth_config=config
            )
            return str(found["Descriptor"]["digest"])

        doing = f"asking the registry for {name.repository}:{name.tag}"
        return await self._client.call(doing, ask, within_s=_PIN_WITHIN_S, slow=True, translator=as_transfer)

    async def _in_use(self) -> set[str]:
        rows = await self._client.call("listing what uses images", lambda c: c.containers(all=True))
        return {str(row["ImageID"]) for row in rows}

    async def _is_our_leftover(self, image: ImageInfo) -> bool:
        if image.tags:
            return all(is_marked(tag, self._mark) for tag in image.tags)
        document = await self._client.call(f"inspecting image {image.id}", partial(_inspect, ref=image.id))
        return LABEL_BUILT in labels_of(document)

    def _auth_header(self, name: Ref, login: Login | None = None) -> dict[str, str]:
        credential = login or self._credentials.get(name.registry)
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
        timeout = stall_s or self._stall_s
        url = self._client.url(api, path)
        return api.post(url, params=dict(params), headers=dict(headers or {}), data=data, stream=True, timeout=timeout)


def _auth_config(registry: str, credential: Login) -> dict[str, str]:
    return {"username": credential.username, "password": credential.password, "serveraddress": registry}


def _inspect(client: docker.APIClient, ref: str) -> Mapping[str, Any]:
    return dict(client.inspect_image(ref))  # type: ignore[no-untyped-call]


def _remove(client: docker.APIClient, name: str) -> None:
    client.remove_image(name)


def _digests_in(image: ImageInfo, repository: str) -> list[str]:
    return [d for d in image.digests if d.partition("@")[0] == repository]
