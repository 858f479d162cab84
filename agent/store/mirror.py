"""What of the state also stands in small files, so that a damaged database can be made anew.

``releases/<hash>.json``, ``instances/<name>.json``, ``rules/<name>.json`` and ``facts.json``, each whole, each with a
checksum of its own. They are written behind the commit by a thread of their own, never in its way: the database
decides as long as it is sound, so being a moment behind costs nothing; a sound database brings them up to date.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from agent.domain.app import Desired
from agent.domain.journal import StoredRelease, StoredRule
from agent.errors import GatewayError
from agent.store.disk import BEING_WRITTEN, remove_all, write_all, write_whole

log = logging.getLogger("agent.store.mirror")

RELEASES, INSTANCES, RULES, FACTS = "releases", "instances", "rules", "facts.json"
MAX_FILE_BYTES = 16 * 1024 * 1024
RETRY_S = 5.0
T = TypeVar("T")


class _Sealed(msgspec.Struct):
    sum: str
    body: msgspec.Raw


class InstanceFile(msgspec.Struct, frozen=True):
    """One instance as it shall be. `serial`: the change that it was written with."""

    serial: int
    desired: Desired


class Facts(msgspec.Struct, frozen=True):
    """What is written last: up to which change the other files are complete, and what there must be.

    `format` is the database's: an agent that has changed its rows finds old words in the files once.
    """

    serial: int
    meta: dict[str, str]
    instances: list[str]
    rules: list[str]
    format: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What the files say. `unreadable` names what should be there and is not, or is not what was written."""

    serial: int = 0
    desired: Mapping[str, Desired] = field(default_factory=dict)
    releases: Mapping[str, StoredRelease] = field(default_factory=dict)
    rules: Mapping[str, StoredRule] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    format: int = 0

    @property
    def empty(self) -> bool:
        """True on a gateway that never had any."""
        return not (self.serial or self.desired or self.releases or self.rules or self.unreadable)


class Mirror:
    """`put` from any thread; one thread writes. What cannot be written (a full disk) is kept and tried again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pending: dict[str, bytes | None] = {}
        self._facts: bytes | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._busy = False

    def start(self) -> None:
        """Make the folders and start the thread."""
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="state-files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, if the disk lets us, and end the thread. Blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def put(self, files: Mapping[str, bytes | None], facts: Facts) -> None:
        """Have files (by path under the root; None removes) and then the facts written. Later ones replace waiting ones."""
        with self._changed:
            self._pending.update(files)
            self._facts = seal(msgspec.json.encode(facts))
            self._changed.notify_all()

    def settled(self, timeout_s: float) -> bool:
        """Wait until nothing waits; False when that took longer. Blocks."""
        with self._changed:
            return self._changed.wait_for(lambda: self._facts is None and not self._busy, timeout_s)

    def read(self) -> Kept:
        """Read all files. Never raises for what stands in them."""
        facts = _decode(self._root / FACTS, Facts)
        unreadable = [FACTS] if facts is None and (self._root / FACTS).exists() else []
        instances: dict[str, Desired] = {}
        for path in self._files(INSTANCES):
            found = _decode(path, InstanceFile)
            if found is None:
                unreadable.append(f"instance {path.stem}")
            elif facts is None or found.desired.name in facts.instances or found.serial > facts.serial:
                instances[found.desired.name] = found.desired
        releases = {r.hash: r for r in self._all(RELEASES, StoredRelease, unreadable)}
        rules = {r.name: r for r in self._all(RULES, StoredRule, unreadable)}
        if facts is None:
            return Kept(0, instances, releases, rules, {}, tuple(unreadable))
        missing = [f"instance {name}" for name in facts.instances if name not in instances]
        missing += [f"rules {name}" for name in facts.rules if name not in rules]
        rules = {name: rule for name, rule in rules.items() if name in facts.rules}
        unreadable += [each for each in missing if each not in unreadable]
        return Kept(facts.serial, instances, releases, rules, facts.meta, tuple(unreadable), facts.format)

    def _all(self, folder: str, kind: type[T], unreadable: list[str]) -> Iterator[T]:
        for path in self._files(folder):
            found = _decode(path, kind)
            if found is None:
                unreadable.append(f"{folder.removesuffix('s')} {path.stem[:40]}")
            else:
                yield found

    def _files(self, folder: str) -> list[Path]:
        return sorted((self._root / folder).glob("*.json"))

    # ---- the writing thread ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._tidy()
        failed = False
        while True:
            with self._changed:
                if failed and not self._closing:
                    self._changed.wait(RETRY_S)
                self._changed.wait_for(lambda: self._closing or self._facts is not None)
                files, facts = self._pending, self._facts
                self._pending, self._facts = {}, None
                closing, self._busy = self._closing, facts is not None
            if facts is not None:
                failed = not self._write(files, facts)
            with self._changed:
                if failed and facts is not None:
                    self._give_back(files, facts)
                self._busy = False
                self._changed.notify_all()
                if closing:
                    return

    def _tidy(self) -> None:
        """Remove what a kill left half written."""
        for pattern in (f"*{BEING_WRITTEN}", *(f"{each}/*{BEING_WRITTEN}" for each in (RELEASES, INSTANCES, RULES))):
            for path in self._root.glob(pattern):
                path.unlink(missing_ok=True)

    def _give_back(self, files: Mapping[str, bytes | None], facts: bytes) -> None:
        """What came meanwhile is newer than what could not be written."""
        self._pending = {**files, **self._pending}
        if self._facts is None:
            self._facts = facts

    def _write(self, files: Mapping[str, bytes | None], facts: bytes) -> bool:
        try:
            for folder in (RELEASES, INSTANCES, RULES):
                (self._root / folder).mkdir(mode=0o700, exist_ok=True)
            write_all({self._root / name: data for name, data in files.items() if data is not None})
            remove_all(self._root / name for name, data in files.items() if data is None)
            write_whole(self._root / FACTS, facts)
        except (GatewayError, OSError) as error:
            log.warning("state_files_not_written reason=%s", error)
            return False
        return True


def release_file(release: StoredRelease) -> tuple[str, bytes]:
    """Path and content of a release's file."""
    return release_path(release.hash), seal(msgspec.json.encode(release))


def instance_file(desired: Desired, serial: int) -> tuple[str, bytes]:
    """Path and content of an instance's file."""
    return instance_path(desired.name), seal(msgspec.json.encode(InstanceFile(serial, desired)))


def rule_file(rule: StoredRule) -> tuple[str, bytes]:
    """Path and content of an applied rules text."""
    return rule_path(rule.name), seal(msgspec.json.encode(rule))


def release_path(hash_: str) -> str:
    """Where a release's file stands."""
    return f"{RELEASES}/{hash_}.json"


def instance_path(name: str) -> str:
    """Where an instance's file stands."""
    return f"{INSTANCES}/{quote(name, safe='')}.json"


def rule_path(name: str) -> str:
    """Where a rules text stands. A name may be long and strange; a file's may not."""
    plain = quote(name, safe="")
    return f"{RULES}/{plain if len(plain) < 120 else hashlib.sha256(name.encode()).hexdigest()}.json"


def seal(body: bytes) -> bytes:
    """`body` with its checksum, as JSON that people can read."""
    return b'{"sum":"' + hashlib.sha256(body).hexdigest().encode() + b'","body":' + body + b"}\n"


def unseal(data: bytes) -> bytes | None:
    """The body, or None when it is not what was sealed."""
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
    except (msgspec.MsgspecError, ValueError):
        return None
    body = bytes(sealed.body)
    return body if hashlib.sha256(body).hexdigest() == sealed.sum else None


def _decode(path: Path, kind: type[T]) -> T | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        body = unseal(path.read_bytes())
        return None if body is None else msgspec.json.decode(body, type=kind)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
