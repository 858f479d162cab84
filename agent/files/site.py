"""All site files together: what holds now, file by file, and what is wrong with the ones that do not count.

Pure of time and threads: `SiteReader.read` looks at the disk once. A file that was valid and no longer is keeps its
last valid effect; so does every file of a folder that vanished or was emptied. A file that is deleted while others
stay is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.domain.document import Mistakes, Problem
from agent.domain.override import PointOverride
from agent.domain.rule import RuleConfig
from agent.domain.sample import DeviceConfig
from agent.files.apps import AppFile
from agent.files.devices import assemble_devices
from agent.files.effect import Book, Effect
from agent.files.folder import Listing, list_folder
from agent.files.kinds import KINDS, Content, Kind, is_table
from agent.files.notes import look_across
from agent.files.points import order_overrides
from agent.files.shape import in_order


@dataclass(frozen=True, slots=True)
class Site:
    """What the site files say. `problems`: files that do not count as they stand now. `warnings`: they count, yet look.

    `missing`: kinds whose folder vanished or was emptied since it held something; they keep what they said. `empty`:
    kinds with no file at all. `kept`: files that are valid no more and act as they last were. `digest` changes
    whenever any of the effects does.
    """

    devices: tuple[DeviceConfig, ...] = ()
    points: tuple[PointOverride, ...] = ()
    rules: tuple[RuleConfig, ...] = ()
    apps: tuple[AppFile, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Read:
    """One file as last read: its content, and its effect or what is wrong with it."""

    content: Content
    effect: Effect | None
    problems: tuple[Problem, ...] = ()


class SiteReader:
    """Reads the folders again and again and remembers the last valid effect of each file.

    `memory` is what an earlier reader's `memory()` gave: so a file that is invalid when the agent starts, or a folder
    that vanished while it was down, still acts as it last did.
    """

    def __init__(self, root: Path, memory: Mapping[str, bytes] | None = None) -> None:
        self._root = root.absolute()
        self._read: dict[Path, _Read] = {}
        self._valid: dict[str, dict[Path, _Read]] = {kind.name: {} for kind in KINDS}
        for kind in KINDS:
            for name, raw in (memory or {}).items():
                if not kind.folders and name.startswith(f"{kind.folder}/"):
                    self._remember(kind, self._root / name, raw)

    def memory(self) -> dict[str, bytes]:
        """The bytes that hold now, by path below the root, to be kept and given to the next reader.

        APPs are left out: what they shall run is part of the desired state, which is stored anyway.
        """
        return {
            str(path.relative_to(self._root)): read.content.raw
            for kind in KINDS
            if not kind.folders
            for path, read in self._valid[kind.name].items()
        }

    def read(self, unsettled: Collection[Path] = ()) -> Site:
        """The site as it holds now. Reads disk: call it off the loop. Never raises for what the files hold.

        `unsettled` are files that somebody is writing just now: they stay what they were.
        """
        problems: list[Problem] = []
        missing: list[str] = []
        empty: list[str] = []
        kept: list[str] = []
        for kind in KINDS:
            listing = list_folder(self._root / kind.folder, kind.suffixes, folders=kind.folders)
            problems += listing.problems
            if listing.files:
                kept += self._read_kind(kind, listing, frozenset(unsettled), problems)
                continue
            empty.append(kind.name)
            if self._valid[kind.name]:
                missing.append(kind.name)
        return self._site(problems, missing, empty, kept)

    def _remember(self, kind: Kind, path: Path, raw: bytes) -> None:
        content = Content(raw, hashlib.sha256(raw).hexdigest())
        try:
            self._valid[kind.name][path] = _Read(content, kind.read(path, content))
        except Mistakes:
            return  # An older agent took it, this one does not: the file on disk will say why.

    def _read_kind(
        self, kind: Kind, listing: Listing, unsettled: frozenset[Path], problems: list[Problem]
    ) -> list[str]:
        """Take the effects of a folder's files. Of two that collide the one that was there first stays."""
        before = self._valid[kind.name]
        being_removed = [path for path in before if path in unsettled and path not in listing.files]
        reads = {
            path: before[path] if path in unsettled else self._read_file(kind, path)
            for path in sorted([*listing.files, *being_removed])
            if path not in unsettled or path in before
        }
        book, now, kept = Book(), {}, []
        for path in sorted(reads, key=lambda each: (is_table(each), self._age(reads[each], before.get(each)), each)):
            read = reads[path]
            found = book.enter(read.effect) if read.effect else list(read.problems)
            if read.effect is not None and not found:
                now[path] = read
                continue
            problems += found
            last = before.get(path)
            if last is not None and last.effect is not None and not book.enter(last.effect):
                now[path] = last
                kept.append(str(path))
        self._valid[kind.name] = {path: now[path] for path in reads if path in now}
        return kept

    @staticmethod
    def _age(read: _Read, before: _Read | None) -> int:
        """0 unchanged, 1 valid no more, 2 new or changed."""
        if before is not None and before.content.digest == read.content.digest:
            return 0
        return 1 if read.effect is None else 2

    def _read_file(self, kind: Kind, path: Path) -> _Read:
        try:
            content = kind.fetch(path)
        except Mistakes as mistakes:
            return _Read(Content(b"", ""), None, mistakes.problems)
        known = self._read.get(path)
        if known is not None and known.content.digest == content.digest:
            return known
        try:
            read = _Read(content, kind.read(path, content))
        except Mistakes as mistakes:
            read = _Read(content, None, mistakes.problems)
        self._read[path] = read
        return read

    def _site(self, problems: list[Problem], missing: list[str], empty: list[str], kept: list[str]) -> Site:
        effects = {
            name: [read.effect for read in files.values() if read.effect is not None]
            for name, files in self._valid.items()
        }
        items = {name: [item for effect in listed for item in effect.items] for name, listed in effects.items()}
        warnings = [warning for listed in effects.values() for effect in listed for warning in effect.warnings]
        seal = hashlib.sha256()
        for name, files in self._valid.items():
            for path, read in files.items():
                seal.update(f"{name}\0{path}\0{read.content.digest}\n".encode())
        site = Site(
            devices=assemble_devices(effects["devices"]),
            points=order_overrides([each for each in items["points"] if isinstance(each, PointOverride)]),
            rules=tuple(each for each in items["rules"] if isinstance(each, RuleConfig)),
            apps=tuple(each for each in items["apps"] if isinstance(each, AppFile)),
            problems=tuple(in_order(problems)),
            missing=tuple(missing),
            empty=tuple(empty),
            kept=tuple(kept),
            digest=seal.hexdigest(),
        )
        return replace(site, warnings=tuple(in_order([*warnings, *look_across(site)])))


def read_site(root: Path) -> Site:
    """The site files read once, without a past: what `ecgw check` and the first start see."""
    return SiteReader(root).read()
