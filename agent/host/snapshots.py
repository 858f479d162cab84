"""Copies of volumes' data, to go back to: taken while nothing writes, whole or not there at all.

They lie in ``<root>/<instance>/<key>/<volume>``. A copy is made under a name that does not count, synced, then renamed.
The work is done by cp, find and du, which know every kind of file, hole, link and attribute; never in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from agent.errors import Failed, NoSpace, NotFound, TimedOut

log = logging.getLogger("agent.host.snapshots")

MIB = 1024 * 1024
RESERVE_BYTES = 64 * MIB
RESERVE_FILES = 1024
WITHIN_S = 900.0
_PART = ".part-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_WORDS = tuple(os.strerror(number) for number in sorted(_FULL))
"""As programs say it in the locale they are run in."""
T = TypeVar("T")


class VolumeSnapshots:
    """`agent.ports.Snapshots` on a folder of the gateway's own. What is held is known without asking the disk."""

    def __init__(self, root: Path, *, reserve_bytes: int = RESERVE_BYTES, within_s: float = WITHIN_S) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._within_s = within_s
        self._held: dict[str, set[tuple[str, str]]] = {}

    async def load(self) -> None:
        """Learn what is held; clear away what a kill left half-made."""
        self._held = await _in_words("reading what is held", self._read)

    def instances(self) -> frozenset[str]:
        """The instances of which anything is held."""
        return frozenset(name for name, held in self._held.items() if held)

    def held(self, instance: str) -> frozenset[tuple[str, str]]:
        """The finished copies of an instance, each as (key, volume)."""
        return frozenset(self._held.get(instance, ()))

    async def reserve(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Return when copies of `folders` (by volume) would fit and leave the reserve; NoSpace when not."""
        size = files = 0
        for folder in folders.values():
            size += await self._measure(folder, "--block-size=1")
            files += await self._measure(folder, "--inodes")
        free_bytes, free_files = await _in_words("measuring what is free", _free, self._root)
        if size + self._reserve_bytes <= free_bytes and files + RESERVE_FILES <= free_files:
            return
        need = f"{size / MIB:.1f} MiB in {files} files"
        have = f"{free_bytes / MIB:.1f} MiB and {free_files} files are free"
        raise NoSpace(
            "snapshot.no_space",
            f"no room to keep the data of {instance} for a roll-back: {need}, {have}",
            hint=f"free space ({self._reserve_bytes / MIB:.0f} MiB stay in reserve), or leave out rollback.volumes",
        )

    async def take(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Copy `folders` (by volume). What is held already is left as it is. Failed: nothing half-made counts."""
        for volume, folder in folders.items():
            if (key, volume) in self.held(instance):
                continue
            parent = self._root / instance / key
            part = parent / f"{_PART}{volume}"
            doing = f"copying volume {volume}"
            await self._clear(part)  # what an earlier try could not clear away must not become part of this copy
            try:
                await self._copy(folder, part, doing)
                await _in_words(doing, _commit, part, parent / volume, self._root)
            except BaseException:
                with contextlib.suppress(Failed, NoSpace, TimedOut):
                    await self._clear(part)
                raise
            self._held.setdefault(instance, set()).add((key, volume))

    async def restore(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Make the content of `folders` what the copies are. Safe to do again. NotFound: there is no such copy."""
        for volume, folder in folders.items():
            source = self._root / instance / key / volume
            doing = f"bringing back volume {volume}"
            if not await _in_words(doing, source.is_dir):
                raise NotFound("snapshot.gone", f"the copy of volume {volume} of {instance} is gone")
            await self._run("find", folder, "-xdev", "-mindepth", "1", "-delete", doing=doing)
            await self._copy(str(source), Path(folder), doing)

    async def drop(self, instance: str, key: str) -> None:
        """Forget the copies under `key`."""
        folder = self._root / instance / key
        doomed = self._root / instance / f"{_PART}{key}"
        # First out of sight at once, so that a kill leaves no copy that looks whole and is not.
        doing = f"forgetting copies of {instance}"
        await self._clear(doomed)
        await _in_words(doing, _rename, folder, doomed)
        self._held[instance] = {(held, volume) for held, volume in self._held.get(instance, ()) if held != key}
        await self._clear(doomed)
        with contextlib.suppress(OSError):
            await asyncio.to_thread((self._root / instance).rmdir)

    async def _clear(self, doomed: Path) -> None:
        await self._run("rm", "-rf", "--one-file-system", str(doomed), doing="clearing away a copy")

    async def _copy(self, source: str, target: Path, doing: str) -> None:
        await _in_words(doing, _make_folder, target)
        await self._run("cp", "-a", "--reflink=auto", "--", f"{source}/.", str(target), doing=doing)
        await self._run("sync", "-f", str(target), doing=doing)

    async def _measure(self, folder: str, unit: str) -> int:
        out = await self._run("du", "-sx", unit, "--", folder, doing=f"measuring {folder}")
        return int(out.split(maxsplit=1)[0])

    async def _run(self, *argv: str, doing: str) -> bytes:
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        with _words(doing):
            process = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
            )
        try:
            async with asyncio.timeout(self._within_s):
                out, err = await process.communicate()
        except TimeoutError:
            raise TimedOut("snapshot.timeout", f"{doing}: not done within {self._within_s:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = err.decode(errors="replace").strip().splitlines()
            full = next((line for line in words if line.endswith(_FULL_WORDS)), "")
            raise _failure(doing, full or (words[-1] if words else f"{argv[0]} failed"), full=bool(full))
        return out

    def _read(self) -> dict[str, set[tuple[str, str]]]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: dict[str, set[tuple[str, str]]] = {}
        for instance in _folders(self._root):
            for key in _folders(instance):
                if key.name.startswith(_PART):
                    shutil.rmtree(key, ignore_errors=True)
                    continue
                for volume in _folders(key):
                    if volume.name.startswith(_PART):
                        shutil.rmtree(volume, ignore_errors=True)
                    else:
                        found.setdefault(instance.name, set()).add((key.name, volume.name))
                _remove_empty(key)
            _remove_empty(instance)
        return found


def _folders(path: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]


def _remove_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


async def _in_words(doing: str, work: Callable[..., T], *given: object) -> T:
    """What blocks, in a thread; what the disk says of it as the gateway's own error."""
    with _words(doing):
        return await asyncio.to_thread(work, *given)


@contextlib.contextmanager
def _words(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failure(doing, error.strerror or str(error), full=error.errno in _FULL) from None


def _failure(doing: str, what: str, *, full: bool) -> Failed | NoSpace:
    words = f"{doing}: {what}"[:500]
    if full:
        return NoSpace("snapshot.no_space", words, hint="free space, or leave out rollback.volumes")
    return Failed("snapshot.failed", words, hint="look at the gateway's disk")


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _free(root: Path) -> tuple[int, int]:
    seen = os.statvfs(root)
    # A file system without a table of inodes (btrfs, some tmpfs) says 0 of 0.
    return seen.f_bavail * seen.f_frsize, seen.f_favail if seen.f_files else 2**62


def _commit(part: Path, final: Path, root: Path) -> None:
    """Rename into place and sync every folder on the way, so that a power cut keeps all of it or nothing."""
    part.rename(final)
    folder = final.parent
    while True:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        if folder == root:
            return
        folder = folder.parent


def _rename(folder: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        folder.rename(target)
