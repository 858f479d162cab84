"""Images from registries: names resolved, manifests checked and kept, layers fetched several at a time."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

from agent.domain.imageplan import (
    ACCEPTED,
    DIGEST,
    MAX_DOCUMENT_BYTES,
    Blob,
    ImagePlan,
    Index,
    choose,
    digest_of,
    make_plan,
    read_manifest,
    require_fit,
)
from agent.domain.imageref import Ref
from agent.domain.pace import pause_s
from agent.domain.platform import Platform
from agent.errors import Busy, Failed, GatewayError, TimedOut, Unreachable
from agent.ports import Login, Progress
from agent.registry.blobs import BlobStore
from agent.registry.fetch import RETRY_WAITS_S, BlobFetcher, Errand
from agent.registry.hosts import Endpoint, Host, endpoints, file_endpoint, read_login
from agent.registry.kept import Kept
from agent.registry.pace import Bucket, Stop
from agent.registry.wire import Visit, Wire

T = TypeVar("T")

_TELL_EVERY_S: Final = 0.1
_RATE_MARKS: Final = 50
_QUICK_THREADS: Final = 4
_LET_GO_S: Final = 0.3
_MAX_DIGITS: Final = 15
"""Of a file's length: more is on no disk."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How fetches behave. `rate_bytes_s` is shared by all of them; 0: no cap. `at_once`: layers at a time.

    `chance` spreads the waits, see `pace.pause_s`.
    """

    stall_s: float = 60.0
    rate_bytes_s: float = 0.0
    at_once: int = 3
    reserve_bytes: int = 0
    retry_waits_s: Sequence[float] = RETRY_WAITS_S
    chance: Callable[[], float] = random.random


class RegistryClient:
    """All registries, and the store below `folder` of what came from them. `hosts` by name as in an image's name."""

    def __init__(self, folder: Path, hosts: Mapping[str, Host] | None = None, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._hosts = dict(hosts or {})
        self.store = BlobStore(folder, self._limits.reserve_bytes)
        self.records: Kept = Kept(folder / "manifests")
        self._wire = Wire(self._limits.stall_s)
        bucket = Bucket(self._limits.rate_bytes_s)
        self._fetcher = BlobFetcher(self.store, self._wire, bucket, self._limits.retry_waits_s, self._limits.chance)
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, thread_name_prefix="registry")
        self._slow = ThreadPoolExecutor(self._limits.at_once, thread_name_prefix="registry-blob")
        self._blobs: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    def close(self) -> None:
        """Let the threads go."""
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)
        self._wire.close()

    def login(self, registry: str) -> Login | None:
        """Who the gateway is at a registry, by its files. Blocks: for threads."""
        return read_login(self._hosts.get(registry, Host()))

    async def resolve(self, name: Ref, login: Login | None = None) -> str:
        """The digest that a tag leads to at this moment. Raises NotFound, Unauthorised, Unreachable, TimedOut, Busy."""

        def resolve(stop: Stop) -> str:
            return self._first(name, login, stop, lambda e, v: self._ask_digest(e, v, name.tag, stop))

        return await self._run(self._quick, resolve)

    async def describe(self, name: Ref, platform: Platform, login: Login | None = None) -> ImagePlan:
        """What the image of a digest is made of. Manifest and configuration are checked, and kept if it can run there."""

        def describe(stop: Stop) -> ImagePlan:
            found = [manifest := self._document(name, login, name.digest, stop)]
            read = read_manifest(manifest, name.pinned)
            if isinstance(read, Index):
                found.append(manifest := self._document(name, login, choose(read, platform, name.pinned), stop))
                read = read_manifest(manifest, name.pinned)
                if isinstance(read, Index):
                    raise Failed("image.bad_manifest", f"{name.pinned}: a list of lists", hint="push the image again")
            found.append(config := self._document(name, login, read.config.digest, stop, blob=True))
            require_fit(config, platform, name.pinned)
            plan = make_plan(name.digest, manifest, config, name.pinned)
            for body in found:
                self.records.keep(body)
            return plan

        return await self._run(self._quick, describe)

    async def fetch(
        self,
        name: Ref,
        blobs: Sequence[Blob],
        progress: Progress,
        login: Login | None = None,
        arrived: Callable[[str], None] | None = None,
    ) -> None:
        """Bring blobs into the store, several at a time, in this order. `arrived` hears each digest, on the loop.

        Raises what stands in the way; what has come stays for the next time. Cancelling ends it at once.
        """
        blobs = list({blob.digest: blob for blob in blobs}.values())
        tally = _Tally(blobs, progress)
        visit: Visit = {}
        room = asyncio.Semaphore(self._limits.at_once)

        async def bring(blob: Blob) -> None:
            lock = self._blobs.setdefault(blob.digest, asyncio.Lock())
            async with room, lock:
                await self._run(self._slow, lambda stop: self._fetch(name, login, visit, blob, tally, stop))
            if arrived is not None:
                arrived(blob.digest)

        teller = asyncio.create_task(tally.tell_on())
        tasks = [asyncio.create_task(bring(blob)) for blob in blobs]
        try:
            await asyncio.gather(*tasks)
            tally.tell()
        finally:
            for task in (teller, *tasks):
                task.cancel()
            await asyncio.gather(teller, *tasks, return_exceptions=True)
            for blob in blobs:
                if (lock := self._blobs.get(blob.digest)) is not None and not lock.locked():
                    del self._blobs[blob.digest]

    async def fetch_file(self, url: str, digest: str, progress: Progress) -> Path:
        """Bring the file at `url` into the store under its hash, continued where it stopped; where it is then.

        Raises Refused, NotFound, Unauthorised, Unreachable, TimedOut, Busy, NoSpace; Failed when it is another file.
        """

        def fetch(stop: Stop) -> None:
            endpoint = file_endpoint(url, self._hosts)
            visit: Visit = {}
            # Not a HEAD: a URL that is signed for reading opens to nothing else.
            with self._wire.ask(visit, endpoint, "", stop, Range="bytes=0-0") as response:
                whole = response.headers.get("Content-Range", "").rpartition("/")[2]
                length = whole if response.status == 206 else response.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
                raise Failed(
                    "bundle.url", f"{endpoint.host} does not say how long the file is", hint="serve it as a file"
                )
            blob = Blob(digest, int(length))
            tally = _Tally([blob], tell)

            def told(here: int) -> None:
                tally.count(blob, here)
                tally.tell()

            self._fetcher.fetch(Errand([endpoint], visit, stop), blob, told)

        def tell(done: int, total: int, what: str) -> None:
            loop.call_soon_threadsafe(progress, done, total, what)

        loop = asyncio.get_running_loop()
        await self._run(self._slow, fetch)
        return self.store.path(digest)

    @contextmanager
    def wanting(self, digests: Collection[str]) -> Iterator[None]:
        """While inside, `clean` leaves these blobs alone; afterwards those that nobody else wants are removed."""
        for digest in digests:
            self._wanted[digest] = self._wanted.get(digest, 0) + 1
        try:
            yield
        finally:
            for digest in digests:
                self._wanted[digest] -= 1
                if not self._wanted[digest]:
                    del self._wanted[digest]

    async def drop(self, digests: Collection[str]) -> None:
        """Let go of whole blobs that were handed over, unless another fetch wants them."""
        gone = [digest for digest in digests if digest not in self._wanted]
        await asyncio.get_running_loop().run_in_executor(self._quick, self.store.remove, *gone)

    async def clean(self) -> int:
        """Remove every blob and every beginning that no fetch under way wants; the bytes that came free."""
        keep = set(self._wanted)
        return await asyncio.get_running_loop().run_in_executor(self._quick, self.store.clean, keep)

    def bytes_of(self, digest: str) -> int:
        """How many bytes of a blob are here. For threads."""
        return self.store.bytes_of(digest)

    def open(self, digest: str) -> IO[bytes]:
        """A blob in the store. For threads."""
        return self.store.open(digest)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[Stop], T]) -> T:
        """Work in a thread, ended when the waiting is."""
        stop = Stop()
        future = asyncio.get_running_loop().run_in_executor(pool, work, stop)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            # It ends at once, unless it stands in a connect: whoever fetches the same next should find the way free.
            await asyncio.wait({future}, timeout=_LET_GO_S)
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    def _fetch(self, name: Ref, login: Login | None, visit: Visit, blob: Blob, tally: _Tally, stop: Stop) -> None:
        errand = Errand(endpoints(name, self._hosts, login), visit, stop)
        self._fetcher.fetch(errand, blob, lambda here: tally.count(blob, here))

    def _document(self, name: Ref, login: Login | None, digest: str, stop: Stop, *, blob: bool = False) -> bytes:
        """A manifest or configuration by digest: the one that is kept, or the registry's, checked."""
        kept = self.records.read(digest)
        if kept is not None:
            return kept
        path = f"/{'blobs' if blob else 'manifests'}/{digest}"

        def ask(endpoint: Endpoint, visit: Visit) -> bytes:
            with self._wire.ask(visit, endpoint, path, stop, Accept=", ".join(ACCEPTED)) as response:
                body = response.read(MAX_DOCUMENT_BYTES + 1)
            if len(body) > MAX_DOCUMENT_BYTES or digest_of(body) != digest:
                raise Unreachable(
                    "image.corrupt",
                    f"{endpoint.host}: what came for {digest} is something else",
                    hint="suspect the link or the registry if it repeats",
                )
            return body

        return self._first(name, login, stop, ask)

    def _ask_digest(self, endpoint: Endpoint, visit: Visit, tag: str, stop: Stop) -> str:
        path = f"/manifests/{tag}"
        accept = ", ".join(ACCEPTED)
        with self._wire.ask(visit, endpoint, path, stop, method="HEAD", Accept=accept) as response:
            told = response.headers.get("Docker-Content-Digest", "")
        if DIGEST.fullmatch(told):
            return told
        with self._wire.ask(visit, endpoint, path, stop, Accept=accept) as response:
            body = response.read(MAX_DOCUMENT_BYTES + 1)
        if len(body) > MAX_DOCUMENT_BYTES:
            raise Failed("image.bad_manifest", f"{endpoint.host}: the manifest of {tag} is larger than 4 MiB")
        return digest_of(body)

    def _first(self, name: Ref, login: Login | None, stop: Stop, ask: Callable[[Endpoint, Visit], T]) -> T:
        """The first endpoint's answer; again after each wait while what went wrong may pass."""
        visit: Visit = {}
        places = endpoints(name, self._hosts, login)
        for wait_s in (*self._limits.retry_waits_s[:2], None):
            for number, endpoint in enumerate(places):
                try:
                    return ask(endpoint, visit)
                except GatewayError as error:
                    if number + 1 < len(places):
                        continue  # a mirror need not have everything
                    if wait_s is None or not isinstance(error, Unreachable | TimedOut | Busy):
                        raise
                    asked_s = float(error.fields.get("wait_s") or 0.0)
                    stop.wait(pause_s(wait_s, asked_s, self._limits.chance()))
        raise AssertionError("the last round returns or raises")


class _Tally:
    """Sums the bytes of several blobs, counted by threads, and tells them on the loop."""

    def __init__(self, blobs: Sequence[Blob], progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._here = {blob.digest: 0 for blob in blobs}
        self._total = sum(blob.size_bytes for blob in blobs)
        self._told = -1
        self._marks: deque[tuple[float, int]] = deque(maxlen=_RATE_MARKS)

    def count(self, blob: Blob, here: int) -> None:
        with self._lock:
            self._here[blob.digest] = here

    def tell(self) -> None:
        with self._lock:
            done = sum(self._here.values())
        self._marks.append((time.monotonic(), done))
        if done > self._told:
            self._told = done
            self._progress(done, self._total, f"downloading{self._rate()}")

    def _rate(self) -> str:
        """Of the last seconds, in words; nothing before there is one."""
        (begun_s, had), (now_s, has) = self._marks[0], self._marks[-1]
        took_s = now_s - begun_s
        return f", {(has - had) / took_s / 1e6:.1f} MB/s" if took_s >= _TELL_EVERY_S and has > had else ""

    async def tell_on(self) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            self.tell()
