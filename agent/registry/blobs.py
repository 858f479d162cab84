"""Blobs on disk, each under its digest: written once, verified before it has its name, resumed after any interruption.

    sha256/<hex>        whole, verified, on disk
    sha256/<hex>.part   the beginning of one; what it holds is hashed again when it is continued

Everything here blocks: for threads only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from agent.domain.imageplan import DIGEST
from agent.errors import Busy, Failed, GatewayError, NoSpace

PART: Final = ".part"
_CHUNK_BYTES: Final = 256 * 1024
_LOOK_EVERY_BYTES: Final = 4 * 1024**2
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class BlobStore:
    """The store below `folder`. `reserve_bytes` of the disk stay free whatever is fetched."""

    def __init__(self, folder: Path, reserve_bytes: int = 0) -> None:
        self.folder = folder / "sha256"
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._open: set[str] = set()

    def has(self, digest: str) -> bool:
        """True if the whole blob is here."""
        return self.path(digest).is_file()

    def bytes_of(self, digest: str) -> int:
        """How many of its bytes are here, whole or in part."""
        for path in (self.path(digest), self._part(digest)):
            with contextlib.suppress(OSError):
                return path.stat().st_size
        return 0

    def open(self, digest: str) -> IO[bytes]:
        """The whole blob, to read. Failed ``image.blob_missing`` when it is not here."""
        try:
            return self.path(digest).open("rb")
        except OSError as error:
            raise Failed(
                "image.blob_missing", f"blob {digest} cannot be read: {error.strerror}", hint="fetch it again"
            ) from None

    def put(self, digest: str, stream: IO[bytes]) -> int:
        """Take a blob from a stream; its bytes. Failed ``image.corrupt`` unless they are the digest's; NoSpace."""
        if self.has(digest):
            return self.bytes_of(digest)
        with self.intake(digest) as intake:
            intake.restart()
            try:
                while chunk := stream.read(_CHUNK_BYTES):
                    intake.write(chunk)
                intake.finish()
            except BaseException:
                with contextlib.suppress(GatewayError):
                    intake.restart()  # a stream is not continued: what came of it is of no use
                raise
            return intake.offset

    @contextmanager
    def intake(self, digest: str) -> Iterator[Intake]:
        """Continue a blob where it stopped, or begin it. One at a time for each: Busy ``image.blob_busy``."""
        with self._lock:
            if digest in self._open:
                raise Busy("image.blob_busy", f"blob {digest} is being fetched already", hint="it is tried again")
            self._open.add(digest)
        try:
            with _disk_words():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                intake = Intake(self.path(digest), self._part(digest), digest, self._reserve_bytes)
            try:
                yield intake
            finally:
                intake.close()
        finally:
            with self._lock:
                self._open.discard(digest)

    def remove(self, *digests: str) -> None:
        """Let go of whole blobs; one that is not here is left alone."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def clean(self, keep: Collection[str] = ()) -> int:
        """Remove all blobs and beginnings but `keep` and those that are being fetched; the bytes that came free."""
        freed_bytes = 0
        try:
            found = list(os.scandir(self.folder))
        except FileNotFoundError:
            return 0
        for entry in found:
            digest = "sha256:" + entry.name.removesuffix(PART)
            with self._lock, contextlib.suppress(FileNotFoundError):
                if digest in keep or digest in self._open:
                    continue
                freed_bytes += entry.stat().st_size
                Path(entry.path).unlink()
        return freed_bytes

    def path(self, digest: str) -> Path:
        """Where it is, or would be."""
        if not DIGEST.fullmatch(digest):
            raise Failed("image.bad_digest", f"{digest[:80]!r} is not a digest", hint="only sha256 is known")
        return self.folder / digest.removeprefix("sha256:")

    def _part(self, digest: str) -> Path:
        path = self.path(digest)
        return path.with_name(path.name + PART)


class Intake:
    """A blob on its way in. `offset` is how many of its bytes are here."""

    def __init__(self, path: Path, part: Path, digest: str, reserve_bytes: int) -> None:
        self.offset = 0
        self._path = path
        self._part = part
        self._digest = digest
        self._reserve_bytes = reserve_bytes
        self._hash = hashlib.sha256()
        self._file = part.open("a+b")
        self._look_at = 0
        self._take_up()

    def write(self, chunk: bytes) -> None:
        """The next bytes. NoSpace when the disk is full down to the reserve."""
        with _disk_words():
            if self.offset >= self._look_at:
                self._look()
            self._file.write(chunk)
        self._hash.update(chunk)
        self.offset += len(chunk)

    def restart(self) -> None:
        """Forget what is here."""
        with _disk_words():
            self._file.truncate(0)
            self._file.seek(0)
        self._hash = hashlib.sha256()
        self.offset = self._look_at = 0

    def finish(self) -> None:
        """Give it its name. Failed ``image.corrupt`` when the bytes are not the digest's, and then they are gone."""
        found = "sha256:" + self._hash.hexdigest()
        if found != self._digest:
            self.restart()
            raise Failed(
                "image.corrupt",
                f"blob {self._digest}: what came has the digest {found}",
                hint="the bytes are not those of the digest; suspect the link, or what serves it, if it repeats",
            )
        with _disk_words():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._part.rename(self._path)
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Keep what is here for the next time; an empty beginning goes."""
        with contextlib.suppress(OSError):  # the disk is full: what did not get out is fetched again
            self._file.close()
        if self.offset == 0:
            self._part.unlink(missing_ok=True)

    def _take_up(self) -> None:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            self._hash.update(chunk)
            self.offset += len(chunk)
        self._look_at = self.offset

    def _look(self) -> None:
        self._look_at = self.offset + _LOOK_EVERY_BYTES
        found = os.statvfs(self._path.parent)
        free_bytes = found.f_bavail * found.f_frsize
        if free_bytes < self._reserve_bytes + _LOOK_EVERY_BYTES:
            raise NoSpace(
                "image.no_space",
                f"{free_bytes // 1024**2} MiB are free where images are fetched to,"
                f" and {self._reserve_bytes // 1024**2} MiB are kept as reserve",
                hint="free space (`ecgw image prune`); the fetch goes on where it stopped",
                free_bytes=free_bytes,
                reserve_bytes=self._reserve_bytes,
            )


def sync_folder(folder: Path) -> None:
    """Have a rename outlive a power cut."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _disk_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, GatewayError):
            raise
        kind = NoSpace if error.errno in _FULL else Failed
        code = "image.no_space" if kind is NoSpace else "image.store"
        raise kind(
            code, f"the store of images cannot be written: {error.strerror}", hint="free space, or mend the disk"
        ) from error
