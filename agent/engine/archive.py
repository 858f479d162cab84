"""Image archives: what ``docker save`` writes and ``docker load`` reads, moved by streams."""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import stat
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

import docker
import requests

from agent.domain.space import UNPACKED_FACTOR
from agent.engine.client import EngineClient, check
from agent.engine.transfer import Line, transfer, until
from agent.errors import Failed, Malformed, NoSpace, Unreachable

_NO_ARCHIVE = re.compile(r"invalid tar header|processing tar file.*unexpected EOF|docker-import-\S+: no such file")
_LOADED = re.compile(r"^Loaded image(?: ID)?: (\S+)$", re.MULTILINE)
_GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 1024**2
_SAVE_WITHIN_S = 3600.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_writing: set[Path] = set()
"""The unfinished archives of this agent; those of another are what a kill left."""


def measure_load(path: Path) -> int:
    """The bytes that the engine takes to load an archive: it spools it unpacked, then makes layers of it.

    0 when the file cannot be read: loading it says why. Blocks: for threads.
    """
    try:
        with _open(path) as archive:
            packed = archive.read(len(_GZIP)) == _GZIP
            size_bytes = os.fstat(archive.fileno()).st_size
    except (OSError, Malformed):
        return 0
    return 2 * size_bytes * (UNPACKED_FACTOR if packed else 1)


async def load(client: EngineClient, path: Path, stall_s: float) -> list[str]:
    """The tags (or ids) of the images that the archive held. Raises Malformed, NoSpace, Failed.

    Cancelled on the way, the engine gets no whole archive and so takes nothing of it.
    """
    loaded: list[str] = []
    stop = threading.Event()

    def take(line: Line) -> None:
        loaded.extend(_LOADED.findall(str(line.get("stream", ""))))

    def request(api: docker.APIClient) -> requests.Response:
        try:
            archive = _open(path)
        except OSError as error:
            words = f"cannot read the archive {path}: {error.strerror}"
            raise Malformed("image.archive_not_found", words, hint="see the path and its permissions") from None
        with archive:
            url = client.url(api, "/images/load")
            headers = {"Content-Type": "application/x-tar"}
            body = until(stop, iter(partial(archive.read, _CHUNK_BYTES), b""))
            return api.post(url, data=body, headers=headers, params={"quiet": "1"}, stream=True, timeout=stall_s)

    try:
        await transfer(client, f"loading {path}", request, take, stall_s=stall_s)
    except (Failed, Unreachable) as error:  # a cut file reads as a cut link does, and would be tried again for ever
        if not _NO_ARCHIVE.search(error.message):
            raise
        hint = "give a whole file as `ecgw image save` or `docker save` writes it"
        raise Malformed("image.bad_archive", error.message, hint=hint) from error
    finally:
        stop.set()
    return loaded


async def save(client: EngineClient, refs: Sequence[str], path: Path, stall_s: float) -> int:
    """The size in bytes of the archive at `path`, which is there only once it is whole and on disk. Raises NoSpace, Failed.

    Cancelled, or given up after an hour, it is not there later either. A thread that nobody waits for any more may go on for
    a while: so each save has a file of its own, and one that a kill left goes with the next.
    """
    stop = threading.Event()
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.ec.part")

    def work(api: docker.APIClient) -> int:
        url = client.url(api, "/images/get")
        size_bytes = 0
        with check(api.get(url, params={"names": list(refs)}, stream=True, timeout=stall_s)) as response:
            _writing.add(part)
            try:
                _remove_left(path)
                with part.open("xb") as archive:
                    for chunk in until(stop, response.iter_content(_CHUNK_BYTES)):
                        size_bytes += archive.write(chunk)
                    archive.flush()
                    os.fsync(archive.fileno())
                part.replace(path)
            except OSError as error:
                if isinstance(error, requests.exceptions.RequestException):
                    raise
                kind = NoSpace if error.errno in _FULL else Failed
                raise kind("image.archive_not_written", f"cannot write {path}: {error.strerror}") from error
            finally:
                part.unlink(missing_ok=True)
                _writing.discard(part)
        return size_bytes

    try:
        return await client.call(f"saving {', '.join(refs)}", work, within_s=_SAVE_WITHIN_S, slow=True)
    finally:
        stop.set()


def _remove_left(path: Path) -> None:
    for left in set(path.parent.glob(f"{glob.escape(path.name)}.????????.ec.part")) - _writing:
        left.unlink(missing_ok=True)


def _open(path: Path) -> IO[bytes]:
    """The archive, opened so that nothing waits: a pipe would keep the thread for ever. OSError, Malformed."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        hint = "give a file as `ecgw image save` or `docker save` writes it"
        raise Malformed("image.bad_archive", f"{path} is no ordinary file", hint=hint)
    return os.fdopen(number, "rb")
