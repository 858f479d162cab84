"""The cloud's declared wish for the whole gateway becomes commands, once for each revision.

An index says which instance shall run which release; the manifests come in documents of their own, in any order.
What is absent from the index is not the cloud's business; what is null goes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from agent.control.inbox import Inbox
from agent.control.ledger import Ledger
from agent.domain.app import Desired, Wanted
from agent.domain.command import Command, Origin
from agent.domain.journal import Change
from agent.ports import DesiredApp, DesiredIndex, DesiredRelease

log = logging.getLogger("agent.control.wishes")

REVISION = "desired_revision"


class Wishes:
    """Holds the newest index until every manifest it needs is here, then submits it."""

    def __init__(self, ledger: Ledger, inbox: Inbox) -> None:
        self._ledger = ledger
        self._inbox = inbox
        self._index: DesiredIndex | None = None
        self._manifests: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    @property
    def revision(self) -> int:
        """The last revision that was acted on; 0 before the first."""
        return int(self._ledger.meta.get(REVISION, "0"))

    async def take_index(self, index: DesiredIndex) -> None:
        """A new index, or one seen before (then nothing happens)."""
        if index.revision > self.revision and (self._index is None or index.revision > self._index.revision):
            self._index = index
            await self._act()

    async def take_release(self, release: DesiredRelease) -> None:
        """An instance's manifest."""
        self._manifests[release.instance] = release.manifest
        await self._act()

    async def _act(self) -> None:
        index = self._index
        if index is None or not all(self._ready(name, app) for name, app in index.apps.items()):
            return
        self._index = None
        self.refused = {}
        for name, app in index.apps.items():
            for number, (type_, params) in enumerate(self._commands(name, app)):
                command_id = f"desired-{index.revision}-{name}-{number}"
                reply = await self._inbox.submit(Command(command_id, type_, params, Origin.CLOUD, who="desired"))
                if not reply.ok:
                    self.refused[name] = reply.msg
                    log.warning("desired_refused revision=%d instance=%s reason=%s", index.revision, name, reply.msg)
        for name, text in index.rules.items():
            type_, params = (
                ("rule.remove", {"name": name}) if text is None else ("rule.apply", {"name": name, "text": text})
            )
            command_id = f"desired-{index.revision}-rule-{name}"
            reply = await self._inbox.submit(Command(command_id, type_, params, Origin.CLOUD, who="desired"))
            if not reply.ok:
                self.refused[f"rules {name}"] = reply.msg
                log.warning("desired_refused revision=%d rules=%s reason=%s", index.revision, name, reply.msg)
        await self._ledger.decide(lambda: Change(meta=((REVISION, str(index.revision)),)))

    def _ready(self, name: str, app: DesiredApp | None) -> bool:
        return app is None or self._runs(name, app.release) or bool(self._manifests.get(name))

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
        if not self._runs(name, app.release):
            kind = "app.install" if desired is None else "app.upgrade"
            params = {"instance": name, "manifest": self._manifests[name], "values": dict(app.values)}
            commands.append((kind, params))
        elif (
            desired is not None
            and desired.current is not None
            and dict(desired.current.cloud.values) != dict(app.values)
        ):
            commands.append(("app.configure", {"instance": name, "values": dict(app.values)}))
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
