"""Copies of volumes' data, to go back to: taken while nothing writes, whole or not there at all.

They lie in ``<root>/<instance>/<key>/<volume>``. A copy is made under a name that does not count, synced, then renamed.
The work is done by cp, find and du, which know every kind of file, hole, link and attribute; never in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from agent.errors import Failed, NoSpace, NotFound, TimedOut

log = logging.getLogger("agent.host.snapshots")

MIB = 1024 * 1024
RESERVE_BYTES = 64 * MIB
RESERVE_FILES = 1024
WITHIN_S = 900.0
_PART = ".part-"


class VolumeSnapshots:
    """`agent.ports.Snapshots` on a folder of the gateway's own. What is held is known without asking the disk."""

    def __init__(self, root: Path, *, reserve_bytes: int = RESERVE_BYTES, within_s: float = WITHIN_S) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._within_s = within_s
        self._held: dict[str, set[tuple[str, str]]] = {}

    async def load(self) -> None:
        """Learn what is held; clear away what a kill left half-made."""
        self._held = await asyncio.to_thread(self._read)

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
        free_bytes, free_files = await asyncio.to_thread(_free, self._root)
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
            try:
                await self._copy(folder, part, f"copying volume {volume}")
                await asyncio.to_thread(_commit, part, parent / volume, self._root)
            except BaseException:
                with contextlib.suppress(Failed, TimedOut):
                    await self._run("rm", "-rf", "--one-file-system", str(part), doing="clearing away half a copy")
                raise
            self._held.setdefault(instance, set()).add((key, volume))

    async def restore(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Make the content of `folders` what the copies are. Safe to do again. NotFound: there is no such copy."""
        for volume, folder in folders.items():
            source = self._root / instance / key / volume
            if not await asyncio.to_thread(source.is_dir):
                raise NotFound("snapshot.gone", f"the copy of volume {volume} of {instance} is gone")
            doing = f"bringing back volume {volume}"
            await self._run("find", folder, "-xdev", "-mindepth", "1", "-delete", doing=doing)
            await self._copy(str(source), Path(folder), doing)

    async def drop(self, instance: str, key: str) -> None:
        """Forget the copies under `key`."""
        folder = self._root / instance / key
        doomed = self._root / instance / f"{_PART}{key}"
        # First out of sight at once, so that a kill leaves no copy that looks whole and is not.
        await asyncio.to_thread(_rename, folder, doomed)
        self._held[instance] = {(held, volume) for held, volume in self._held.get(instance, ()) if held != key}
        await self._run("rm", "-rf", "--one-file-system", str(doomed), doing=f"forgetting copies of {instance}")
        with contextlib.suppress(OSError):
            await asyncio.to_thread((self._root / instance).rmdir)

    async def _copy(self, source: str, target: Path, doing: str) -> None:
        await asyncio.to_thread(_make_folder, target)
        await self._run("cp", "-a", "--reflink=auto", "--", f"{source}/.", str(target), doing=doing)
        await self._run("sync", "-f", str(target), doing=doing)

    async def _measure(self, folder: str, unit: str) -> int:
        out = await self._run("du", "-sx", unit, "--", folder, doing=f"measuring {folder}")
        return int(out.split(maxsplit=1)[0])

    async def _run(self, *argv: str, doing: str) -> bytes:
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
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
            raise Failed("snapshot.failed", f"{doing}: {words[-1] if words else f'{argv[0]} failed'}"[:500])
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


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failed("snapshot.failed", f"{path}: {error.strerror}") from None


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
