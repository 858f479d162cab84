"""What the state's database must hold, kept in memory and in files, and how a damaged one is made anew from them.

Every change that matters for what runs gets the next number (`SERIAL`), written with it into the database and, behind
it, into the files. A database with a lower number than the files has lost changes; one with the same number and other
content was altered. While the agent runs, its memory makes a damaged file anew without a loss; at the start the files
do, without jobs and replies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from agent.domain.alarm import Alarm
from agent.domain.app import Desired
from agent.domain.command import Job
from agent.domain.journal import REBUILT, SURVEY, Change, Snapshot, StoredRelease, StoredRule, bring_in
from agent.store.damage import Damaged
from agent.store.mirror import (
    Facts,
    Kept,
    Mirror,
    instance_file,
    instance_path,
    release_file,
    release_path,
    rule_file,
    rule_path,
)
from agent.store.rows import MIGRATIONS, read_snapshot, write_change
from agent.store.wal import WalReading

SERIAL = "serial"


@dataclass(slots=True)
class _Memory:
    """What the database holds, as of the last commit. The same objects as the ledger's: no copy."""

    serial: int = 0
    desired: dict[str, Desired] = field(default_factory=dict)
    releases: dict[str, StoredRelease] = field(default_factory=dict)
    rules: dict[str, StoredRule] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    site: dict[str, bytes] = field(default_factory=dict)

    def facts(self) -> Facts:
        return Facts(self.serial, self.meta, sorted(self.desired), sorted(self.rules), len(MIGRATIONS))

    def as_change(self) -> Change:
        return Change(
            desired=tuple(self.desired.values()),
            releases=tuple(self.releases.values()),
            rules=tuple(self.rules.values()),
            jobs=tuple(self.jobs.values()),
            meta=tuple(self.meta.items()),
        )


class StateKeeper:
    """The keeper of ``state.db``. All but `close` run in the writer thread."""

    def __init__(self, folder: Path) -> None:
        self.mirror = Mirror(folder)
        self._memory: _Memory | None = None
        self._next = 0

    def close(self) -> None:
        """Write what waits and end."""
        self.mirror.close()

    # ---- while it runs -----------------------------------------------------------------------------------------

    def number(self, change: Change) -> Callable[[], Change]:
        """`change` with its number, given when its turn in the writer thread comes."""

        def numbered() -> Change:
            if not _matters(change):
                return change
            self._next += 1
            return replace(change, meta=(*change.meta, (SERIAL, str(self._next))))

        return numbered

    def note(self, change: Change) -> None:
        """A change was committed."""
        memory = self._sure()
        bring_in(change, memory)
        if not _matters(change):
            return
        memory.serial = int(memory.meta[SERIAL])
        files: dict[str, bytes | None] = {instance_path(name): None for name in change.gone}
        files |= {rule_path(name): None for name in change.rules_gone}
        files |= {release_path(hash_): None for hash_ in change.releases_gone}
        files |= dict(_files(change.releases, change.desired, change.rules, memory.serial))
        self.mirror.put(files, memory.facts())

    def note_alarm(self, alarm: Alarm) -> None:
        """An alarm was saved."""
        alarms = self._sure().alarms
        alarms.pop(alarm.key, None)
        if alarm.active:
            alarms[alarm.key] = alarm

    def note_site(self, files: Mapping[str, bytes]) -> None:
        """The site's files were saved."""
        self._sure().site = dict(files)

    # ---- at the start, and when it is damaged ------------------------------------------------------------------

    def check(self, connection: sqlite3.Connection, wal: WalReading) -> None:
        """Damaged when the database cannot be read, lacks changes, or says other than the files of the same number."""
        try:
            snapshot = read_snapshot(connection)
            alarms = [msgspec.json.decode(row[0], type=Alarm) for row in connection.execute("SELECT body FROM alarms")]
            site = {str(path): bytes(text) for path, text in connection.execute("SELECT path, content FROM site")}
            serial = int(snapshot.meta.get(SERIAL, "0"))
        except (msgspec.MsgspecError, ValueError, TypeError, sqlite3.OperationalError) as error:
            raise Damaged("store.damaged", f"a row is not what was written: {error}") from None
        kept = self.mirror.read()
        if kept.serial > serial:
            raise Damaged("store.damaged", f"it lacks the last changes ({serial} of {kept.serial})")
        comparable = kept.serial == serial and kept.format == len(MIGRATIONS)
        differing = _differing(snapshot, kept) if comparable else ""
        if differing:
            raise Damaged("store.damaged", f"{differing} is not what was written")
        self._learn(snapshot, {a.key: a for a in alarms}, site)
        self._bring_up_to_date(kept)

    def fill(self, connection: sqlite3.Connection, aside: Path | None) -> str | None:
        """Fill a new database from memory, else from the files."""
        if self._memory is not None:
            self._write(connection, self._memory)
            return "only the replies to earlier commands and the journal of steps are lost"
        kept = self.mirror.read()
        if kept.empty and aside is None:
            self._learn(Snapshot((), (), (), (), (), {}), {}, {})
            self.mirror.start()
            return None
        whole = {name: replace(d, job="") for name, d in kept.desired.items() if d.current is not None}
        dropped = [f"the installation of {name}" for name in kept.desired if name not in whole]
        memory = _Memory(
            kept.serial + 1, whole, dict(kept.releases), dict(kept.rules), meta={**kept.meta, SURVEY: REBUILT}
        )
        memory.meta[SERIAL] = str(memory.serial)
        self._write(connection, memory)
        self._memory, self._next = memory, memory.serial
        self._bring_up_to_date(Kept())
        return _in_words(kept, whole, dropped)

    def _learn(self, snapshot: Snapshot, alarms: dict[str, Alarm], site: dict[str, bytes]) -> None:
        serial = int(snapshot.meta.get(SERIAL, "0"))
        self._memory = _Memory(
            serial,
            {d.name: d for d in snapshot.desired},
            {r.hash: r for r in snapshot.releases},
            {r.name: r for r in snapshot.rules},
            {j.id: j for j in snapshot.jobs},
            dict(snapshot.meta),
            alarms,
            site,
        )
        self._next = serial

    def _bring_up_to_date(self, kept: Kept) -> None:
        """Write the files that are missing or older than the database, and remove those it has forgotten.

        Those are left by a kill between the commit that forgets and the removal of its file.
        """
        memory = self._sure()
        self.mirror.start()
        releases = [r for r in memory.releases.values() if kept.releases.get(r.hash) != r]
        desired = [d for d in memory.desired.values() if kept.desired.get(d.name) != d]
        rules = [r for r in memory.rules.values() if kept.rules.get(r.name) != r]
        gone: dict[str, bytes | None] = {instance_path(name): None for name in kept.desired.keys() - memory.desired}
        gone |= {rule_path(name): None for name in kept.rules.keys() - memory.rules}
        gone |= {release_path(hash_): None for hash_ in kept.releases.keys() - memory.releases}
        files = gone | dict(_files(releases, desired, rules, memory.serial))
        if files or (kept.serial, kept.format) != (memory.serial, len(MIGRATIONS)):
            self.mirror.put(files, memory.facts())

    def _write(self, connection: sqlite3.Connection, memory: _Memory) -> None:
        write_change(connection, memory.as_change(), 0)
        connection.execute("UPDATE jobs SET told=1 WHERE final=1")
        bodies = [(a.key, msgspec.json.encode(a)) for a in memory.alarms.values()]
        connection.executemany("INSERT INTO alarms VALUES(?,?)", bodies)
        connection.executemany("INSERT INTO site VALUES(?,?)", list(memory.site.items()))

    def _sure(self) -> _Memory:
        assert self._memory is not None, "the file was not opened"
        return self._memory


def _matters(change: Change) -> bool:
    """True for what the files hold too; jobs, steps and replies go into the database alone."""
    releases, rules = change.releases or change.releases_gone, change.rules or change.rules_gone
    return bool(change.desired or change.gone or releases or rules or change.meta or change.meta_gone)


def _files(
    releases: Iterable[StoredRelease], desired: Iterable[Desired], rules: Iterable[StoredRule], serial: int
) -> list[tuple[str, bytes]]:
    return [
        *(release_file(each) for each in releases),
        *(instance_file(each, serial) for each in desired),
        *(rule_file(each) for each in rules),
    ]


def _differing(snapshot: Snapshot, kept: Kept) -> str:
    """The first thing that database and files of the same number tell differently; "" when none does."""
    for desired in snapshot.desired:
        if kept.desired.get(desired.name, desired) != desired:
            return f"instance {desired.name}"
    for release in snapshot.releases:
        if kept.releases.get(release.hash, release) != release:
            return f"release {release.hash[:12]}"
    for rule in snapshot.rules:
        if kept.rules.get(rule.name, rule) != rule:
            return f"rules {rule.name}"
    there = {d.name for d in snapshot.desired}
    lacking = [name for name in kept.desired if name not in there]
    if lacking and kept.serial:
        return f"instance {lacking[0]}"
    return "what is remembered" if kept.serial and dict(kept.meta) != snapshot.meta else ""


def _in_words(kept: Kept, whole: Mapping[str, Desired], dropped: list[str]) -> str:
    words = [
        f"{len(whole)} instances and {len(kept.releases)} releases came from their files",
        "jobs, the replies to earlier commands (the same id would be carried out again) and the journal of steps are lost",
    ]
    if not kept.meta.get("desired_revision"):
        words.append("the cloud's revision is unknown: its wish is taken anew")
    lost = [*kept.unreadable, *dropped]
    if lost:
        more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
        words.append(f"not to be had: {', '.join(lost[:8])}{more}")
    return "; ".join(words)
