"""From a pinned name to an image in the engine: what is missing is fetched, checked, and loaded by stream."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
import requests

from agent.domain.imageplan import Blob, ImagePlan, chain_in_common
from agent.domain.imageref import Ref, mark_tag
from agent.domain.platform import Platform, read_machine
from agent.domain.space import ENGINE_FOLDER, STATE_FOLDER, Disk, Need, require_room, unpacked_bytes
from agent.engine.client import EngineClient
from agent.engine.durable import sync_disk
from agent.engine.imagetar import Cargo, write_archive
from agent.engine.shelf import inspect_sound
from agent.engine.source import ImageSource
from agent.engine.transfer import Line, transfer, until
from agent.errors import Failed, NoSpace
from agent.ports import Login, Progress

log = logging.getLogger("agent.engine.handover")

_LOAD_STALL_S: Final = 900.0
_ZSTD_SINCE_API: Final = (1, 42)


@dataclass(frozen=True, slots=True)
class Engine:
    """What of the engine matters to an image. `own_store`: it keeps images itself, not in containerd.
    `cgroup_driver`: cgroupfs or systemd.
    """

    platform: Platform
    root_dir: str
    own_store: bool
    zstd: bool
    cgroup_driver: str


def measure_disk(path: str) -> Disk:
    """The file system that holds `path`; one that cannot be looked at counts as endless."""
    try:
        found = os.statvfs(path)
        device = Path(path).stat().st_dev
    except OSError:
        return Disk(-1, 2**63, 2**63)
    return Disk(device, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where space is looked for: `folder` holds what the source fetched; `measure` looks at a disk, `sync` empties its cache."""

    folder: str = "/"
    measure: Callable[[str], Disk] = measure_disk
    sync: Callable[[str], Awaitable[None]] = sync_disk


class Handover:
    """`reserve_bytes` stay free in both rooms, the source's and the engine's."""

    def __init__(self, client: EngineClient, source: ImageSource, mark: str, rooms: Rooms, reserve_bytes: int) -> None:
        self._client = client
        self._source = source
        self._mark = mark
        self._rooms = rooms
        self._reserve_bytes = reserve_bytes
        self._known: tuple[docker.APIClient, Engine] | None = None
        self._layers: dict[str, tuple[str, ...]] = {}

    async def bring(self, name: Ref, progress: Progress, login: Login | None) -> None:
        """Have the image of ``repo@sha256:...`` in the engine, under its mark's tag.

        Raises NotFound, Unauthorised, Refused, Unreachable, TimedOut, Busy, NoSpace, Failed; what was fetched stays for
        the next time, and the engine has the whole image or nothing of it.
        """
        engine = await self.engine()
        plan = await self._source.describe(name, engine.platform, login)
        present = await self._present(plan) if engine.own_store else 0
        try:
            await self._bring(name, plan, engine, present, progress, login)
        except Failed as error:
            # Whoever removed the layers' last image meanwhile: then they are fetched too.
            if not present or error.code != "engine.failed":
                raise
            await self._bring(name, plan, engine, 0, progress, login)

    async def engine(self) -> Engine:
        """Facts about the engine that answers now."""

        def ask(client: docker.APIClient) -> Engine:
            if self._known is None or self._known[0] is not client:
                self._known = (client, _read_engine(client.info(), client.api_version))
            return self._known[1]

        return await self._client.call("asking the engine for facts", ask)

    async def disk(self) -> Disk:
        """The engine's disk."""
        engine = await self.engine()
        return await self._client.call("measuring the engine's disk", lambda _: self._rooms.measure(engine.root_dir))

    async def sync(self) -> None:
        """Return when what the engine has unpacked outlasts a power cut."""
        await self._rooms.sync((await self.engine()).root_dir)

    async def require_room(self, size_bytes: int) -> None:
        """NoSpace ``image.no_space`` when the engine's disk has not so many bytes beside the reserve."""
        require_room([Need(ENGINE_FOLDER, await self.disk(), size_bytes)], self._reserve_bytes)

    async def _bring(
        self, name: Ref, plan: ImagePlan, engine: Engine, present: int, progress: Progress, login: Login | None
    ) -> None:
        layers = plan.layers[present:]
        blobs = list(dict.fromkeys(layer.blob for layer in layers))
        digests = [blob.digest for blob in blobs]
        with self._source.wanting(digests):
            await self._require_room(blobs, unpacked_bytes(layers), engine)
            try:
                await self._source.fetch(name, blobs, progress, login)
            except NoSpace as error:
                where = await self._where_fetched(engine)
                raise NoSpace(error.code, error.message, hint=error.hint, where=where, **error.fields) from error
            await self._load(name, plan, present, engine)
            await self.sync()
        await self._source.drop(digests)

    async def _load(self, name: Ref, plan: ImagePlan, present: int, engine: Engine) -> None:
        tag = f"{name.repository}:{mark_tag(name.digest, self._mark)}"
        stop = threading.Event()
        cargo = Cargo(plan, tag, present, not engine.zstd, self._source.open)

        def request(api: docker.APIClient) -> requests.Response:
            url = self._client.url(api, "/images/load")
            body = until(stop, write_archive(cargo))
            headers = {"Content-Type": "application/x-tar"}
            return api.post(url, data=body, headers=headers, stream=True, timeout=_LOAD_STALL_S)

        try:
            doing = f"loading {name.pinned}"
            await transfer(self._client, doing, request, _ignore, stall_s=_LOAD_STALL_S)
        finally:
            stop.set()

    async def _present(self, plan: ImagePlan) -> int:
        """How many of the lowest layers the engine has in some image.

        One that it has and cannot describe goes: else what is loaded would be put on the damaged layers.
        """
        wanted = [layer.diff_id for layer in plan.layers]

        def count(client: docker.APIClient) -> int:
            ids = {str(row["Id"]) for row in client.images(all=True)}
            if plan.config_digest in ids and inspect_sound(client, plan.config_digest) is None:
                log.warning("image_is_damaged image=%s", plan.config_digest)
                client.remove_image(plan.config_digest, force=True)
                ids.remove(plan.config_digest)
            self._layers = {key: layers for key, layers in self._layers.items() if key in ids}
            for image_id in ids - set(self._layers):
                self._layers[image_id] = _layers_of(client, image_id)
            return max((chain_in_common(wanted, layers) for layers in self._layers.values()), default=0)

        return await self._client.call("looking which layers are here", count)

    async def _where_fetched(self, engine: Engine) -> str:
        """What lies on the disk that the source fetches to."""

        def look(_: docker.APIClient) -> str:
            one, other = (self._rooms.measure(path).device for path in (self._rooms.folder, engine.root_dir))
            return f"{STATE_FOLDER} and {ENGINE_FOLDER}" if one == other else STATE_FOLDER

        return await self._client.call("looking which disk is full", look)

    async def _require_room(self, blobs: Sequence[Blob], unpacked: int, engine: Engine) -> None:
        def look(client: docker.APIClient) -> None:
            del client
            packed = sum(blob.size_bytes for blob in blobs)
            here = sum(min(blob.size_bytes, self._source.bytes_of(blob.digest)) for blob in blobs)
            needs = [
                Need(STATE_FOLDER, self._rooms.measure(self._rooms.folder), packed - here),
                # The engine spools the archive before it unpacks it.
                Need(ENGINE_FOLDER, self._rooms.measure(engine.root_dir), packed + unpacked),
            ]
            require_room(needs, self._reserve_bytes)

        await self._client.call("looking for room", look)


def _ignore(line: Line) -> None:
    """What the engine tells while it loads; its errors are raised anyway."""


def _layers_of(client: docker.APIClient, image_id: str) -> tuple[str, ...]:
    document = inspect_sound(client, image_id) or {}
    return tuple((document.get("RootFS") or {}).get("Layers") or ())


def _read_engine(info: Mapping[str, Any], api_version: str) -> Engine:
    driver = str(info.get("DriverStatus"))
    major, _, minor = api_version.partition(".")
    return Engine(
        read_machine(str(info.get("Architecture", ""))),
        str(info.get("DockerRootDir", "")),
        own_store="io.containerd.snapshotter" not in driver,
        zstd=(int(major), int(minor or 0)) >= _ZSTD_SINCE_API,
        cgroup_driver=str(info.get("CgroupDriver", "")),
    )
