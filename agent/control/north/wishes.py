"""The cloud's declared wish for the whole gateway becomes commands, once for each revision.

An index says which instance shall run which release; the manifests come in documents of their own, in any order.
What is absent from the index is not the cloud's business; what is null goes.
"""

from __future__ import annotations

import asyncio
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
        self._manifests: dict[str, str] = {}
        self._bundles: dict[str, DesiredBundle] = {}
        self._lock = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None
        self.refused: dict[str, str] = {}

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
        self._bundles.pop(release.instance, None)
        self._manifests[release.instance] = release.manifest
        await self._act()

    async def take_bundle(self, bundle: DesiredBundle) -> None:
        """An instance's release by reference."""
        self._manifests.pop(bundle.instance, None)
        self._bundles[bundle.instance] = bundle
        await self._act()

    async def _act(self) -> None:
        async with self._lock:
            index = self._index
            if index is None or not all(self._ready(name, app) for name, app in index.apps.items()):
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
        await self._ledger.decide(lambda: Change(meta=((REVISION, str(max(index.revision, self.revision))),)))

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

    def _ready(self, name: str, app: DesiredApp | None) -> bool:
        return (
            app is None
            or name in self._bundles
            or self._runs(name, app.release)
            or bool(self._manifest(name, app.release))
        )

    def _manifest(self, name: str, release: str) -> str:
        """The text of the release that the index names; "" while it is not here.

        A text with digests that is known to make another release is a document that the new one has not replaced yet.
        """
        stored = self._ledger.releases.get(release)
        text = self._manifests.get(name, "")
        if stored is not None and not (stored.files or stored.beside):
            return stored.text
        fixed = {r.hash for r in self._ledger.releases.values() if r.text == text and all("@" in i for i in r.digests)}
        return "" if release and fixed and release not in fixed else text

    def _runs(self, name: str, release: str) -> bool:
        desired = self._ledger.desired.get(name)
        return (
            bool(release) and desired is not None and desired.current is not None and desired.current.release == release
        )

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
            if name in self._bundles:
                by = self._bundles[name]
                commands.append(("bundle.fetch", {"instance": name, "url": by.url, "sha256": by.sha256, **values}))
            else:
                commands.append((kind, {"instance": name, "manifest": self._manifest(name, app.release), **values}))
        elif (
            desired is not None
            and desired.current is not None
            and dict(desired.current.cloud.values) != dict(app.values)
        ):
            commands.append(("app.configure", {"instance": name, **values}))
        if desired is None and app.state == "stopped":
            commands.append(("app.stop", {"instance": name}))
        return commands


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
