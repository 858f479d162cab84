"""The cloud's declared wish for the whole gateway becomes commands, once for each revision.

An index says which instance shall run which release; the manifests come in documents of their own, in any order.
What is absent from the index is not the cloud's business; what is null goes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from agent.control.ledger import Ledger
from agent.domain.app import Desired, Wanted
from agent.domain.command import Command, Origin, Reply
from agent.domain.journal import Change
from agent.errors import Busy, GatewayError
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex, DesiredRelease

log = logging.getLogger("agent.control.north.wishes")

REVISION = "desired_revision"
ACTED = "desired_document:"
"""Begins the keys under which stands, for each instance, the release last asked for and the seal of what brought it."""
RETRY_S = 30.0
LATER = (429, 503, 504, 507)
"""Replies that say: not now."""


class Submits(Protocol):
    """The inbox."""

    async def submit(self, command: Command) -> Reply: ...


class Wishes:
    """Holds the newest index until every manifest it needs is here, then submits it."""

    def __init__(self, ledger: Ledger, inbox: Submits, retry_s: float = RETRY_S) -> None:
        self._ledger = ledger
        self._inbox = inbox
        self._retry_s = retry_s
        self._index: DesiredIndex | None = None
        self._documents: dict[str, str | DesiredBundle] = {}
        self._lock = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None
        self.refused: dict[str, str] = {}
        self.waiting: dict[str, str] = {}

    @property
    def revision(self) -> int:
        """The last revision that was acted on; 0 before the first."""
        return int(self._ledger.meta.get(REVISION, "0"))

    async def take_index(self, index: DesiredIndex) -> None:
        """A new index, or one seen before (then nothing happens). Busy: not all of it could be written; it is tried again."""
        if index.revision > self.revision and (self._index is None or index.revision > self._index.revision):
            self._index = index
            await self._act()

    async def take_release(self, release: DesiredRelease) -> None:
        """An instance's manifest; "" withdraws it."""
        self._documents[release.instance] = release.manifest
        await self._act()

    async def take_bundle(self, bundle: DesiredBundle) -> None:
        """An instance's release by reference."""
        self._documents[bundle.instance] = bundle
        await self._act()

    async def _act(self) -> None:
        async with self._lock:
            index = self._index
            if index is None:
                return
            self.waiting = {
                name: _words(index, app) for name, app in index.apps.items() if app and not self._ready(name, app)
            }
            if self.waiting:
                log.warning("desired_waits revision=%d for=%s", index.revision, ",".join(sorted(self.waiting)))
                return
            self._index = None
            try:
                await self._submit_all(index)
            except GatewayError:
                if self._index is None:  # else a newer one came meanwhile
                    self._index = index
                self._retry()
                raise

    async def _submit_all(self, index: DesiredIndex) -> None:
        self.refused = {}
        for name, app in index.apps.items():
            for type_, params in self._commands(name, app):
                # By its type, not by its place: after a kill half-way less is left to do, and the same id is answered
                # without an effect.
                await self._submit(index, f"{name}-{type_}", name, type_, params)
        for name, text in index.rules.items():
            type_, params = (
                ("rule.remove", {"name": name}) if text is None else ("rule.apply", {"name": name, "text": text})
            )
            await self._submit(index, f"rule-{name}", f"rules {name}", type_, params)
        acted = tuple((ACTED + name, self._mark(name, app)) for name, app in index.apps.items())
        await self._ledger.decide(lambda: Change(meta=((REVISION, str(max(index.revision, self.revision))), *acted)))

    async def _submit(self, index: DesiredIndex, id_: str, about: str, type_: str, params: Mapping[str, Any]) -> None:
        """One command of a revision. What cannot be done now but can be later is raised, and keeps the revision open."""
        command = Command(f"desired-{index.revision}-{id_}", type_, params, Origin.CLOUD, who="desired")
        reply = await self._inbox.submit(command)
        if reply.code in LATER:
            raise Busy("desired.later", f"revision {index.revision} is not done: {about}: {reply.msg}")
        if not reply.ok:
            self.refused[about] = reply.msg
            log.warning("desired_refused revision=%d about=%r reason=%s", index.revision, about, reply.msg)

    def _retry(self) -> None:
        """Try the open revision again after a while, and until it is done: the broker does so only after the next connect."""
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._act_until_done(), name="desired-retry")

    async def _act_until_done(self) -> None:
        while self._index is not None:
            await asyncio.sleep(self._retry_s)
            try:
                await self._act()
            except GatewayError as error:
                log.warning("desired_postponed code=%s reason=%s", error.code, error)

    def _ready(self, name: str, app: DesiredApp) -> bool:
        return self._runs(name, app.release) or bool(self._find(name, app.release))

    def _find(self, name: str, release: str) -> str | DesiredBundle:
        """What brings the release that the index names, by its hash or by the seal of its document; "" while it is not here.

        Before it is deployed nobody can tell which release a text makes that names images by tags. What was acted on for
        another release, what runs as another, and what can only be another is a document not replaced yet.
        """
        stored = self._ledger.releases.get(release)
        if stored is not None and not (stored.files or stored.beside):
            return stored.text
        found = self._documents.get(name, "")
        if not release or not found or _seal(found) == release:
            return found
        asked, _, seal = self._ledger.meta.get(ACTED + name, "").partition(" ")
        if asked not in ("", release) and seal == _seal(found):
            return ""
        made = {each.hash: each for each in self._ledger.releases.values() if each.text == found}
        certain = any(all("@" in image for image in each.digests) for each in made.values())
        desired = self._ledger.desired.get(name)
        runs = desired is not None and desired.current is not None and desired.current.release in made
        return "" if (certain or runs) and release not in made else found

    def _mark(self, name: str, app: DesiredApp | None) -> str:
        """What is kept of this revision's word on an instance."""
        found = self._documents.get(name, "")
        return f"{app.release} {_seal(found)}" if app and app.release and found else ""

    def _runs(self, name: str, release: str) -> bool:
        desired = self._ledger.desired.get(name)
        if not release or desired is None or desired.current is None:
            return False
        stored = self._ledger.releases.get(desired.current.release)
        return release in (desired.current.release, _seal(stored.text) if stored else "")

    def _commands(self, name: str, app: DesiredApp | None) -> list[tuple[str, Mapping[str, Any]]]:
        """What brings an instance from what is desired now to what the index says."""
        desired = self._ledger.desired.get(name)
        if app is None:
            return [("app.remove", {"instance": name})] if desired is not None else []
        # Starting and stopping come first: later they would replace the deployment that they belong to.
        commands = [] if desired is None else _hold(desired, app)
        values = {"values": dict(app.values), "exact": True}
        if not self._runs(name, app.release):
            kind = "app.install" if desired is None else "app.upgrade"
            found = self._find(name, app.release)
            if isinstance(found, DesiredBundle):
                commands.append(
                    ("bundle.fetch", {"instance": name, "url": found.url, "sha256": found.sha256, **values})
                )
            else:
                commands.append((kind, {"instance": name, "manifest": found, **values}))
        elif (
            desired is not None
            and desired.current is not None
            and dict(desired.current.cloud.values) != dict(app.values)
        ):
            commands.append(("app.configure", {"instance": name, **values}))
        if desired is None and app.state == "stopped":
            commands.append(("app.stop", {"instance": name}))
        return commands


def _seal(document: str | DesiredBundle) -> str:
    """The SHA-256 of a manifest's text, or of a bundle, as hex digits."""
    return hashlib.sha256(document.encode()).hexdigest() if isinstance(document, str) else document.sha256


def _words(index: DesiredIndex, app: DesiredApp) -> str:
    """What an instance waits for."""
    named = f" of release {app.release}" if app.release else ""
    return f"revision {index.revision} waits for its document{named}; one that was acted on for another release is not used again"


def _hold(desired: Desired, app: DesiredApp) -> list[tuple[str, Mapping[str, Any]]]:
    """What makes an instance run or stand still as the index says."""
    wanted = Wanted.STOPPED if app.state == "stopped" else Wanted.RUNNING
    if desired.wanted is wanted:
        return []
    params = {"instance": desired.name}
    if wanted is Wanted.RUNNING:
        return [("app.start", params)]
    # What is on its way out must stay before it can be held.
    going = desired.wanted is not Wanted.RUNNING
    return [*([("app.start", params)] if going else []), ("app.stop", params)]
