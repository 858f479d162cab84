"""Notices that files changed, without ever handing on one that is half written.

Polling, because it works on every file system a stick or a share brings. A look compares names, sizes and times; only
what differs is read, and only other bytes count as a change. It runs in a thread, never in the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.files.kinds import KINDS, fingerprint_beside

HASHED_MAX_BYTES = 8 * 1024 * 1024
ENTRIES_MAX = 5000
SETTINGS = "settings"
FOLDERS: Mapping[str, tuple[str, ...]] = {
    SETTINGS: ("conf.d", "boards"),
    **{kind.name: (kind.folder,) for kind in KINDS},
}
LEFT_OVERS = ("~", ".swp", ".swx", ".tmp", ".part", ".bak")

Stamp = tuple[int, ...] | str
Seen = dict[Path, Stamp]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last time: paths by kind (``settings``, ``devices``, ``points``, ``rules``, ``apps``).

    `missing` are kinds whose folder vanished or lost its last file just now. `first` marks the report that opens a
    watch: everything that is there. `unsettled` are paths that changed too and do not stand still yet: leave them be.
    """

    paths: Mapping[str, frozenset[Path]]
    missing: frozenset[str] = frozenset()
    unsettled: frozenset[Path] = frozenset()
    first: bool = False

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds with a change."""
        return frozenset(self.paths) | self.missing


@dataclass(slots=True)
class _Track:
    """One path under watch: what was last handed on, and a newer look that has yet to prove itself."""

    stamp: Stamp | None = None
    digest: str = ""
    pending: Stamp | None = None
    since_s: float = 0.0


Tracks = dict[Path, _Track]


class Watcher:
    """Watches a configuration folder. `every_s` between looks; a change must stand still for `settle_s`."""

    def __init__(
        self,
        root: Path,
        *,
        every_s: float = 1.0,
        settle_s: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root.absolute()
        self._every_s = every_s
        self._settle_s = settle_s
        self._monotonic = monotonic
        self._tracks: dict[str, Tracks] = {kind: {} for kind in FOLDERS}
        self._unsettled: set[Path] = set()

    async def changes(self) -> AsyncGenerator[Changes, None]:
        """What changes, for ever. The first report comes at once; reading the files after it misses nothing."""
        yield await asyncio.to_thread(self.begin)
        while True:
            await asyncio.sleep(min(self._every_s, self._settle_s) if self._unsettled else self._every_s)
            found = await asyncio.to_thread(self.look)
            if found is not None:
                yield found

    def begin(self) -> Changes:
        """Take everything as it is now for handed on."""
        for kind in FOLDERS:
            self._tracks[kind] = {path: _Track(stamp, _digest(path)) for path, stamp in self._scan(kind).items()}
        return Changes({kind: frozenset(tracks) for kind, tracks in self._tracks.items() if tracks}, first=True)

    def look(self) -> Changes | None:
        """Look once. None when nothing has changed, or what has does not stand still yet."""
        now = self._monotonic()
        self._unsettled.clear()
        paths: dict[str, frozenset[Path]] = {}
        missing: set[str] = set()
        for kind, tracks in self._tracks.items():
            had = any(track.stamp is not None for track in tracks.values())
            changed = self._compare(tracks, self._scan(kind), now)
            if changed:
                paths[kind] = frozenset(changed)
            if had and not tracks:
                missing.add(kind)
        return Changes(paths, frozenset(missing), frozenset(self._unsettled)) if paths or missing else None

    def _compare(self, tracks: Tracks, seen: Seen, now: float) -> list[Path]:
        changed: list[Path] = []
        for path in [*seen, *(path for path in tracks if path not in seen)]:
            stamp = seen.get(path)
            track = tracks.setdefault(path, _Track())
            if stamp == track.stamp:
                track.pending = None
                if stamp is None:
                    del tracks[path]
            elif not self._settled(track, stamp, now):
                self._unsettled.add(path)
            elif self._confirm(tracks, path, track, stamp):
                changed.append(path)
        return changed

    def _settled(self, track: _Track, stamp: Stamp | None, now: float) -> bool:
        """True once the path has looked the same, and not as handed on, for long enough."""
        look: Stamp = "gone" if stamp is None else stamp
        if track.pending != look:
            track.pending, track.since_s = look, now
        return now - track.since_s >= self._settle_s

    @staticmethod
    def _confirm(tracks: Tracks, path: Path, track: _Track, stamp: Stamp | None) -> bool:
        """Take the new look for handed on; True when its bytes differ too."""
        if stamp is None:
            del tracks[path]
            return True
        digest, before = _digest(path), (track.stamp, track.digest)
        track.stamp, track.digest, track.pending = stamp, digest, None
        return before[0] is None or before[1] != digest

    def _scan(self, kind: str) -> Seen:
        seen: Seen = {}
        if kind == SETTINGS:
            main = self._root / "gateway.yaml"
            if os.path.lexists(main):
                seen[main] = _stamp(main)
        for name in FOLDERS[kind]:
            try:
                entries = sorted((self._root / name).iterdir())[:ENTRIES_MAX]
            except OSError:
                continue
            for path in entries:
                if not path.name.startswith(".") and not path.name.endswith(LEFT_OVERS):
                    seen[path] = _stamp(path)
        return seen


def _stamp(path: Path) -> Stamp:
    """What changes when a file does: time, size, inode; for a folder the same of all in it."""
    try:
        state = path.stat()
    except OSError as error:
        return f"errno {error.errno}"
    if stat.S_ISDIR(state.st_mode):
        return fingerprint_beside(path)
    return state.st_mtime_ns, state.st_size, state.st_ino


def _digest(path: Path) -> str:
    """The bytes of a file in short. Where they cannot or should not be read, its stamp."""
    stamp = _stamp(path)
    if isinstance(stamp, str) or stamp[1] > HASHED_MAX_BYTES or not path.is_file():
        return str(stamp)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"errno {error.errno}"
