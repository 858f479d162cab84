"""After the state was made anew: what really runs is looked at before anything is changed or removed.

The engine's labels decide what runs. An instance that only they know is taken over when its release's file is here and
makes exactly these containers; any other is left running, with an alarm, until a person decides. No APP is restarted,
and none removed, because a disk went bad.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from agent.control.catalog import Catalog
from agent.control.ledger import Ledger
from agent.domain.alarm import Severity
from agent.domain.app import Desired, Trial, Version, Wanted
from agent.domain.command import Origin
from agent.domain.container import ContainerState
from agent.domain.journal import DONE, REBUILT, SURVEY, UNEXPLAINED, Change
from agent.errors import GatewayError

log = logging.getLogger("agent.control.converge.survey")

FOUND = "found stopped when the state was made anew"


class Alarms(Protocol):
    """Raise and clear."""

    def raise_alarm(self, source: str, code: str, severity: Severity, message: str) -> object: ...
    def clear_alarm(self, source: str, code: str) -> object: ...


class Survey:
    """`look` is called with all containers of this gateway each time the engine was listed as a whole."""

    def __init__(self, ledger: Ledger, catalog: Catalog, alarms: Alarms) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._alarms = alarms
        ledger.listen(self._on_change)

    async def look(self, containers: Sequence[ContainerState]) -> None:
        """Explain what runs, if that is owed; keep the alarms about what nobody can explain."""
        found: dict[str, list[ContainerState]] = {}
        for container in containers:
            found.setdefault(container.instance, []).append(container)
        if self._ledger.meta.get(SURVEY):
            await self._explain(found)
        await self._keep_alarms(found)

    def _on_change(self, change: Change) -> None:
        for desired in change.desired:
            if self._ledger.meta.get(UNEXPLAINED + desired.name):
                self._alarms.clear_alarm(f"app:{desired.name}", "unexplained")

    async def _explain(self, found: Mapping[str, list[ContainerState]]) -> None:
        rebuilt = self._ledger.meta.get(SURVEY) == REBUILT

        def decision() -> Change:
            adopted, marks = [], [(SURVEY, DONE)]
            for name, containers in found.items():
                desired = self._ledger.desired.get(name)
                if desired is None:
                    known = self._recognise(name, containers)
                    if known is None:
                        marks.append((UNEXPLAINED + name, "yes"))
                    else:
                        adopted.append(known)
                elif rebuilt:
                    adopted += self._catch_up(desired, containers)
            return Change(desired=tuple(adopted), meta=tuple(marks))

        change = await self._ledger.decide(decision)
        for desired in change.desired:
            log.warning("adopted instance=%s owner=%s by=labels", desired.name, desired.owner)

    def _recognise(self, name: str, containers: Sequence[ContainerState]) -> Desired | None:
        """The desired state of an instance that only labels know, when its release makes exactly its containers."""
        release = _release_of(containers)
        if release is None or release not in self._ledger.releases:
            return None
        wanted = Wanted.RUNNING if any(c.serving for c in containers) else Wanted.STOPPED
        hold = FOUND if wanted is Wanted.STOPPED else ""
        desired = Desired(name, Origin.LOCAL, wanted, current=Version(release), hold=hold)
        return desired if self._fits(desired, containers) else None

    def _catch_up(self, desired: Desired, containers: Sequence[ContainerState]) -> list[Desired]:
        """An instance whose file was written a moment before the engine went on to another release."""
        release = _release_of(containers)
        current, settled = desired.current, desired.trial is Trial.PROVEN and desired.wanted is Wanted.RUNNING
        if release is None or current is None or release == current.release or not settled:
            return []
        stored = self._ledger.releases.get(release)
        after = replace(desired, current=replace(current, release=release))
        if stored is None or stored.failed or not self._fits(after, containers):
            return []
        return [after]

    def _fits(self, desired: Desired, containers: Sequence[ContainerState]) -> bool:
        try:
            spec = self._catalog.spec(desired)
        except GatewayError as error:
            log.warning("not_explained instance=%s code=%s reason=%s", desired.name, error.code, error)
            return False
        made = {c.service: c.spec_hash for c in spec.containers}
        return all(made.get(c.service) == c.spec for c in containers)

    async def _keep_alarms(self, found: Mapping[str, list[ContainerState]]) -> None:
        marked = [
            key.removeprefix(UNEXPLAINED)
            for key, value in self._ledger.meta.items()
            if key.startswith(UNEXPLAINED) and value
        ]
        explained = [name for name in marked if name not in found or name in self._ledger.desired]
        if explained:
            await self._ledger.decide(lambda: Change(meta=tuple((UNEXPLAINED + name, "") for name in explained)))
        for name in marked:
            if name in explained:
                self._alarms.clear_alarm(f"app:{name}", "unexplained")
                continue
            release = _release_of(found[name]) or "several releases"
            message = (
                f"containers of '{name}' ({release[:12]}) run, and the state that was made anew does not know why: they are"
                f" left as they are; install it again under this name, or remove them with docker"
            )
            self._alarms.raise_alarm(f"app:{name}", "unexplained", Severity.MAJOR, message)


def _release_of(containers: Sequence[ContainerState]) -> str | None:
    """The one release that serves, or of all where none does; None when there are several."""
    releases = {c.release for c in containers if c.serving} or {c.release for c in containers}
    return releases.pop() if len(releases) == 1 else None
