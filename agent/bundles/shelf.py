"""`agent.ports.Bundles`: bundles on sticks and disks, taken into the store of images and a folder for their files."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

from agent.bundles.images import read_contents
from agent.bundles.reader import Bundle, open_bundle
from agent.domain import bundle
from agent.errors import NoSpace, TimedOut
from agent.ports import BundleHead, Progress

_LOOK_WITHIN_S = 30.0
_TAKE_WITHIN_S = 3600.0
_RESERVE_BYTES = 16 * 1024**2
_TEXTS = frozenset({".json", ".yaml", ".yml"})
"""What a manifest may refer to by name, as `ecgw app install` sends it along."""

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


class BundleShelf:
    """Images go to `layers` and `documents`, the files of each bundle to a folder of its own below `folder`.

    What `download` fetches lies with the images until no job needs it.
    """

    def __init__(self, folder: Path, layers: Layers, documents: Documents, download: Download) -> None:
        self._folder = folder
        self._download = download
        self._layers = layers
        self._documents = documents

    async def look(self, path: str) -> BundleHead:
        """See `agent.ports.Bundles`."""
        return await _within(_LOOK_WITHIN_S, f"reading the bundle {path}", self._look, path)

    async def fetch(self, url: str, sha256: str, progress: Progress) -> str:
        """See `agent.ports.Bundles`."""
        return str(await self._download(url, f"sha256:{sha256}", progress))

    async def take(self, path: str, progress: Progress) -> str:
        """See `agent.ports.Bundles`. NoSpace before anything is written when there is not enough room."""
        loop = asyncio.get_running_loop()
        stopped = threading.Event()

        def told(done: int, total: int) -> None:
            if stopped.is_set():
                raise asyncio.CancelledError
            loop.call_soon_threadsafe(progress, done, total, "reading the bundle")

        try:
            return await _within(_TAKE_WITHIN_S, f"taking the bundle {path}", self._take, path, told)
        finally:
            stopped.set()  # its thread ends at the next piece

    async def keep(self, folders: Collection[str]) -> None:
        """See `agent.ports.Bundles`."""
        await asyncio.to_thread(self._keep, frozenset(folders))

    def _look(self, path: str) -> BundleHead:
        found = open_bundle(Path(path))
        key = _key(found)
        texts = {
            name: found.text(bundle.FILES + name)
            for name in found.index.files
            if found.entries[bundle.FILES + name].size <= bundle.MAX_TEXT_BYTES and Path(name).suffix in _TEXTS
        }
        return BundleHead(
            path=path,
            key=key,
            name=found.index.name,
            version=found.index.version,
            architecture=found.index.architecture,
            manifest=found.text(bundle.MANIFEST),
            files=texts,
            images=dict(found.index.images),
            size_bytes=found.index.size_bytes,
            folder=str(self._folder / key),
        )

    def _take(self, path: str, told: Told) -> str:
        found = open_bundle(Path(path))
        contents = read_contents(found)
        missing = {digest: size for digest, size in contents.layers.items() if not self._layers.has(digest)}
        folder = self._folder / _key(found)
        files_bytes = sum(found.entries[bundle.FILES + name].size for name in found.index.files)
        self._make_sure_of_room(path, sum(missing.values()) + files_bytes)
        for document in contents.documents:
            self._documents.keep(document)
        total = sum(contents.layers.values())
        done = total - sum(missing.values())
        for digest, size in missing.items():
            pieces = found.read(bundle.BLOBS + digest.removeprefix("sha256:"))
            self._layers.put(digest, cast("IO[bytes]", _Stream(_count(pieces, done, total, told))))
            done += size
        if not (folder / bundle.MANIFEST).is_file():
            found.unpack(folder)
        return str(folder)

    def _make_sure_of_room(self, path: str, needed_bytes: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(self._folder).free
        if needed_bytes + _RESERVE_BYTES > free_bytes:
            raise NoSpace(
                "bundle.no_space",
                f"{path} needs {needed_bytes // 1024} KiB, {free_bytes // 1024} KiB are free",
                hint=f"free space (`ecgw image prune`); {_RESERVE_BYTES // 1024**2} MiB are kept as reserve",
                needed_bytes=needed_bytes,
                free_bytes=free_bytes,
            )

    def _keep(self, folders: frozenset[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            for each in self._folder.iterdir():
                if str(each) not in folders:
                    shutil.rmtree(each, ignore_errors=True)


class _Stream:
    """Pieces as something to read from; each read gives the next one, whatever its size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")


def _count(pieces: Iterator[bytes], done: int, total: int, told: Told) -> Iterator[bytes]:
    for piece in pieces:
        done += len(piece)
        told(done, total)
        yield piece


def _key(found: Bundle) -> str:
    """By what it is known again: the hash of its index, which holds the hash of everything else."""
    return hashlib.sha256(bundle.write_index(found.index)).hexdigest()[:32]


async def _within(within_s: float, doing: str, work: Callable[..., T], *given: Any) -> T:
    try:
        return await asyncio.wait_for(asyncio.to_thread(work, *given), within_s)
    except TimeoutError:
        hint = "is the stick sound? copy the bundle to the gateway's own disk"
        raise TimedOut("bundle.slow", f"{doing} took more than {within_s:g} s", hint=hint) from None
