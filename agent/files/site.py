"""All site files together: what holds now, file by file, and what is wrong with the ones that do not count.

Pure of time and threads: `SiteReader.read` looks at the disk once. A file that was valid and no longer is keeps its
last valid effect; so does every file of a folder that vanished or was emptied. A file that is deleted while others
stay is gone.
"""

from __future__ import annotations

import hashlib
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
from agent.files.kinds import KINDS, Kind, is_table
from agent.files.notes import look_across
from agent.files.points import order_overrides
from agent.files.shape import in_order
from agent.settings.sections import Points


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
    """One file as last read: its digest, and its effect or what is wrong with it."""

    digest: str
    effect: Effect | None
    problems: tuple[Problem, ...] = ()


class SiteReader:
    """Reads the folders again and again and remembers the last valid effect of each file."""

    def __init__(self, root: Path, defaults: Points | None = None) -> None:
        self._root = root.absolute()
        self._defaults = defaults
        self._read: dict[Path, _Read] = {}
        self._valid: dict[str, dict[Path, tuple[str, Effect]]] = {kind.name: {} for kind in KINDS}

    def read(self) -> Site:
        """The site as it holds now. Reads disk: call it off the loop. Never raises for what the files hold."""
        problems: list[Problem] = []
        missing: list[str] = []
        empty: list[str] = []
        kept: list[str] = []
        for kind in KINDS:
            listing = list_folder(self._root / kind.folder, kind.suffixes, folders=kind.folders)
            problems += listing.problems
            if listing.files:
                kept += self._read_kind(kind, listing, problems)
                continue
            empty.append(kind.name)
            if self._valid[kind.name]:
                missing.append(kind.name)
        return self._site(problems, missing, empty, kept)

    def _read_kind(self, kind: Kind, listing: Listing, problems: list[Problem]) -> list[str]:
        """Take the effects of a folder's files. Of two that collide the one that was there first stays."""
        before = self._valid[kind.name]
        reads = {path: self._read_file(kind, path) for path in listing.files}
        book, now, kept = Book(), {}, []
        for path in sorted(reads, key=lambda each: (is_table(each), self._age(reads[each], before.get(each)), each)):
            read = reads[path]
            found = book.enter(read.effect) if read.effect else list(read.problems)
            if read.effect is not None and not found:
                now[path] = (read.digest, read.effect)
                continue
            problems += found
            if path in before and not book.enter(before[path][1]):
                now[path] = before[path]
                kept.append(str(path))
        self._valid[kind.name] = {path: now[path] for path in reads if path in now}
        return kept

    @staticmethod
    def _age(read: _Read, before: tuple[str, Effect] | None) -> int:
        """0 unchanged, 1 valid no more, 2 new or changed."""
        if before is not None and before[0] == read.digest:
            return 0
        return 1 if read.effect is None else 2

    def _read_file(self, kind: Kind, path: Path) -> _Read:
        try:
            content = kind.fetch(path)
        except Mistakes as mistakes:
            return _Read("", None, mistakes.problems)
        known = self._read.get(path)
        if known is not None and known.digest == content.digest:
            return known
        try:
            read = _Read(content.digest, kind.read(path, content))
        except Mistakes as mistakes:
            read = _Read(content.digest, None, mistakes.problems)
        self._read[path] = read
        return read

    def _site(self, problems: list[Problem], missing: list[str], empty: list[str], kept: list[str]) -> Site:
        effects = {name: [effect for _, effect in files.values()] for name, files in self._valid.items()}
        items = {name: [item for effect in listed for item in effect.items] for name, listed in effects.items()}
        warnings = [warning for listed in effects.values() for effect in listed for warning in effect.warnings]
        seal = hashlib.sha256()
        for name, files in self._valid.items():
            for path, (digest, _) in files.items():
                seal.update(f"{name}\0{path}\0{digest}\n".encode())
        site = Site(
            devices=assemble_devices(effects["devices"]),
            points=order_overrides(
                [each for each in items["points"] if isinstance(each, PointOverride)], self._defaults
            ),
            rules=tuple(each for each in items["rules"] if isinstance(each, RuleConfig)),
            apps=tuple(each for each in items["apps"] if isinstance(each, AppFile)),
            problems=tuple(in_order(problems)),
            missing=tuple(missing),
            empty=tuple(empty),
            kept=tuple(kept),
            digest=seal.hexdigest(),
        )
        return replace(site, warnings=tuple(in_order([*warnings, *look_across(site)])))


def read_site(root: Path, defaults: Points | None = None) -> Site:
    """The site files read once, without a past: what `ecgw check` and the first start see."""
    return SiteReader(root, defaults).read()
