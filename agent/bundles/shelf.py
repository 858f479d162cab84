"""`agent.ports.Bundles`: bundles on sticks and disks, taken into the store of images and a folder for their files."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol, TypeVar, cast

from agent.bundles.folders import BundleFolders
from agent.bundles.images import Contents, read_contents
from agent.bundles.reader import Bundle, open_bundle
from agent.bundles.reading import Reading, Readings
from agent.bundles.unpacked import watch_size
from agent.domain import bundle
from agent.domain.amounts import show_bytes
from agent.domain.document import Mistakes
from agent.domain.manifest import read_manifest
from agent.errors import Conflict, GatewayError, Malformed, NoSpace
from agent.files.sticks import MOST, Stamp, look_into
from agent.files.yaml import read_document
from agent.ports import BundleHead, Progress

RESERVE_BYTES = 16 * 1024**2
_LOOKS = 4
"""Watched folders that are looked into at once."""
_WRITERS = 6
"""Bundles that are written to the gateway's own disk at once."""

T = TypeVar("T")
Told = Callable[[int, int], None]
Download = Callable[[str, str, Progress], Awaitable[Path]]
"""From a URL into the store of images, under the digest that it must have."""


class Layers(Protocol):
    """Where layers go: each under its digest, verified."""

    def has(self, digest: str) -> bool: ...
    def put(self, digest: str, stream: IO[bytes]) -> int: ...


class Documents(Protocol):
    """Where manifests and configurations go, by content."""

    def keep(self, body: bytes) -> str: ...


@dataclass(frozen=True, slots=True)
class Room:
    """`reserve_bytes` of each disk stay free. `engine_free` tells what the engine's has; None: it is not looked at."""

    reserve_bytes: int = RESERVE_BYTES
    engine_free: Callable[[], Awaitable[int]] | None = None


class BundleShelf:
    """Images go to `layers` and `documents`, the files of each bundle to a folder of its own below `folder`.

    What `download` fetches lies with the images until no job needs it.
    Sticks are read in threads that may hang, the gateway's own disk is written in others, which so never do.
    """

    def __init__(
        self,
        folder: Path,
        layers: Layers,
        documents: Documents,
        download: Download,
        *,
        room: Room | None = None,
        readings: Readings | None = None,
    ) -> None:
        self._folders = BundleFolders(folder)
        self._download = download
        self._layers = layers
        self._documents = documents
        self._room = room or Room()
        self._readings = readings or Readings()
        self._writers = ThreadPoolExecutor(_WRITERS, "bundle-write")
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def find(self, folders: Sequence[Path]) -> Mapping[Path, Stamp]:
        """See `agent.ports.Bundles`."""
        found: dict[Path, Stamp] = {}
        at_once = asyncio.Semaphore(_LOOKS)
        tops = await asyncio.gather(*(self._look_into(folder, at_once) for folder in folders))
        below = await asyncio.gather(*(self._look_into(folder, at_once) for _, under in tops for folder in under))
        for bundles, _ in (*tops, *below):
            found |= bundles
        return dict(sorted(found.items())[:MOST])

    async def look(self, path: str, *, to_take: bool = False, whole: bool = False) -> BundleHead:
        """See `agent.ports.Bundles`."""
        if not path.isprintable():
            what = "has characters in its name that cannot be shown"
            raise Malformed("bundle.name", f"the bundle {path!a} {what}", hint="give it a plain name")
        with self._readings.of(Path(path)) as reading:
            found, head = await reading.wait_for(partial(self._look, path))
            if to_take:
                contents = await reading.wait_for(partial(read_contents, found))
                await self._write(self._make_sure_of_room, found, contents)
            if whole:
                await self._write(_read_all, reading, found)
        return head

    async def fetch(self, url: str, sha256: str, progress: Progress) -> str:
        """See `agent.ports.Bundles`."""
        return str(await self._download(url, f"sha256:{sha256}", progress))

    async def take(self, path: str, key: str, folder: str, progress: Progress) -> None:
        """See `agent.ports.Bundles`."""
        loop = asyncio.get_running_loop()
        stopped = threading.Event()
        free_bytes = await self._room.engine_free() if self._room.engine_free else 2**62
        room_bytes = max(0, free_bytes - self._room.reserve_bytes)

        def told(done: int, total: int) -> None:
            if stopped.is_set():
                raise asyncio.CancelledError
            loop.call_soon_threadsafe(progress, done, total, "reading the bundle")

        try:
            with self._readings.of(Path(path)) as reading:
                async with self._lock(Path(folder).name):
                    await self._write(self._take, reading, path, key, room_bytes, told)
        finally:
            stopped.set()  # its thread ends at the next piece

    async def keep(self, needed: Callable[[], Collection[str]]) -> None:
        """See `agent.ports.Bundles`."""
        for key in await self._write(self._folders.names):
            # The lock first: a job that begins to want the folder from now on finds it gone, and brings it again.
            async with self._lock(key):
                if str(self._folders.path(key)) not in needed():
                    await self._write(self._folders.remove, key)

    def close(self) -> None:
        """Take nothing more."""
        self._writers.shutdown(wait=False, cancel_futures=True)

    async def _write(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writers, partial(work, *given))

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    async def _look_into(self, folder: Path, at_once: asyncio.Semaphore) -> tuple[Mapping[Path, Stamp], Sequence[Path]]:
        """What a watched folder holds; nothing while it does not answer."""
        try:
            async with at_once:
                with self._readings.of(folder / "*") as reading:
                    return await reading.wait_for(partial(look_into, folder))
        except GatewayError:
            return {}, ()

    def _look(self, path: str) -> tuple[Bundle, BundleHead]:
        found = open_bundle(Path(path))
        key = _key(found)
        text = found.text(bundle.MANIFEST)
        head = BundleHead(
            path=path,
            key=key,
            name=found.index.name,
            version=found.index.version,
            architecture=found.index.architecture,
            manifest=text,
            files=_named(found, text),
            images=dict(found.index.images),
            size_bytes=found.index.size_bytes,
            folder=str(self._folders.path(_folder(found))),
            beside=found.index.beside,
        )
        return found, head

    def _take(self, reading: Reading, path: str, key: str, room_bytes: int, told: Told) -> None:
        found = reading.ask(partial(open_bundle, Path(path)))
        if key and _key(found) != key:  # none: the job is of an agent that did not write it down
            what = "is not the bundle any more that was checked when this job began"
            raise Conflict("bundle.swapped", f"{path} {what}", hint="import it again")
        contents = reading.ask(partial(read_contents, found))
        missing = self._missing(contents)
        self._make_sure_of_room(found, contents)
        total = sum(contents.layers.values())
        done = total - sum(missing.values())
        folder, names = _folder(found), [bundle.FILES + each for each in found.index.files]
        if not self._folders.has(folder, names):
            self._folders.put(folder, names, lambda name: _count(reading.each(found.read(name)), done, total, told))
        for digest, size in missing.items():
            pieces = reading.each(found.read(bundle.BLOBS + digest.removeprefix("sha256:")))
            watched = watch_size(pieces, f"{path}: layer {digest}", size, room_bytes)
            self._layers.put(digest, cast("IO[bytes]", _Stream(_count(watched, done, total, told))))
            done += size
        for document in contents.documents:
            self._documents.keep(document)

    def _missing(self, contents: Contents) -> dict[str, int]:
        return {digest: size for digest, size in contents.layers.items() if not self._layers.has(digest)}

    def _make_sure_of_room(self, found: Bundle, contents: Contents) -> None:
        needed_bytes = sum(self._missing(contents).values()) + found.index.files_bytes
        free_bytes = self._folders.free_bytes()
        if needed_bytes + self._room.reserve_bytes > free_bytes:
            raise NoSpace(
                "bundle.no_space",
                f"{found.path} needs {show_bytes(needed_bytes)}; {show_bytes(free_bytes)} are free,"
                f" of which {show_bytes(self._room.reserve_bytes)} are kept as reserve",
                hint="free space (`ecgw image prune`, or remove an APP)",
                needed_bytes=needed_bytes,
                free_bytes=free_bytes,
                reserve_bytes=self._room.reserve_bytes,
            )


def _named(found: Bundle, text: str) -> dict[str, str]:
    """The files that the manifest `text` refers to, as `ecgw app install` sends them along; none of one with mistakes."""
    try:
        manifest, _ = read_manifest(read_document(text, bundle.MANIFEST))
    except Mistakes:
        return {}  # whoever deploys it reads it too, and says what is wrong and where
    names = set(manifest.files) if manifest else set()
    return {name: found.text(bundle.FILES + name) for name in found.index.files if name in names}


def _read_all(reading: Reading, found: Bundle) -> None:
    for name in found.entries:
        for _ in reading.each(found.read(name)):
            pass


class _Stream:
    """Pieces as something to read from; each read gives the next one, whatever its size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")


def _count(pieces: Iterator[bytes], done: int, total: int, told: Told) -> Iterator[bytes]:
    for piece in pieces:
        done += len(piece)
        told(min(done, total), total)
        yield piece


def _key(found: Bundle) -> str:
    """By what it is known again: the hash of its index, which holds the hash of everything else."""
    return hashlib.sha256(bundle.write_index(found.index)).hexdigest()[:32]


def _folder(found: Bundle) -> str:
    """By what is in it: another version with the same files has them where they are, and its services stay as they are."""
    return found.index.beside[:32] or "none"
