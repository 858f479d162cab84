"""What technicians wrote in files becomes what holds: devices, points and rules at once, APPs as commands.

A valid change is applied without a restart; a file that became invalid keeps its last valid effect and raises an
alarm. A deleted file removes its instance and keeps the volumes; a folder that vanished or was emptied removes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from agent.control.apps.deploy import Deployer
from agent.control.converge.supervisor import Alarms
from agent.control.inbox import Inbox
from agent.control.ledger import Ledger
from agent.domain.alarm import Severity
from agent.domain.app import Layer
from agent.domain.command import Command, Origin
from agent.domain.document import Problem
from agent.domain.journal import Change, StoredRule
from agent.domain.rule import RuleConfig
from agent.domain.values import LayerFrom
from agent.errors import GatewayError, Malformed
from agent.files.apps import AppFile
from agent.files.rules import read_rules_text
from agent.files.site import Site, SiteReader

log = logging.getLogger("agent.control.site")

AGAIN_S = 3.0
SEEN = "file:"
SOURCE = "files"
OF_APP = "file:"
"""Begins the alarm source of one file of apps.d, so that a hundred refused ones are a hundred alarms."""


class Plane(Protocol):
    """The data plane, as far as files configure it."""

    def configure(self, devices: Sequence[Any], overrides: Sequence[Any], rules: Sequence[RuleConfig]) -> None: ...


class SiteFiles:
    """Applies `Site` after `Site`. Rules from commands stand beside those from files, under names of their own."""

    def __init__(
        self, root: Path, ledger: Ledger, inbox: Inbox, deployer: Deployer, plane: Plane, alarms: Alarms
    ) -> None:
        self._root = root
        self._reader: SiteReader | None = None
        self._ledger = ledger
        self._inbox = inbox
        self._deployer = deployer
        self._plane = plane
        self._alarms = alarms
        self._lock = asyncio.Lock()
        self.site = Site()
        self._saved = self.site.digest
        self._tasks: set[asyncio.Task[None]] = set()
        self._next: asyncio.TimerHandle | None = None
        # What each refused file said then. Not on the disk: a grant given since holds after a restart.
        self._refused: dict[str, str] = {}
        ledger.listen(self._on_change)

    async def apply(self, unsettled: Collection[Path] = ()) -> None:
        """Read the files and make them hold. Never raises: what a full disk refuses to remember follows by itself.

        `unsettled` are files somebody is writing just now: they stay what they were.
        """
        async with self._lock:
            try:
                await self._apply(unsettled)
            except GatewayError as error:
                log.warning("site_not_remembered code=%s reason=%s", error.code, error)
                self._apply_soon(unsettled, AGAIN_S)
            self._report()

    async def _apply(self, unsettled: Collection[Path]) -> None:
        if self._reader is None:
            kept = await self._ledger.journal.load_site()
            self._reader = SiteReader(self._root, kept)
        self.site = await asyncio.to_thread(self._reader.read, unsettled)
        self._deployer.site_layers = {(a.instance, a.app): layer_of(a) for a in self.site.apps if a.kind == "values"}
        self.configure_plane()
        if self.site.digest != self._saved:
            await self._ledger.journal.save_site(self._reader.memory())
            self._saved = self.site.digest
        await self._apply_apps()

    def _apply_soon(self, unsettled: Collection[Path] = (), wait_s: float = 0.0) -> None:
        """One waits at a time, until the earlier of both: else each try in vain would begin another row of tries."""
        loop = asyncio.get_running_loop()
        at = loop.time() + wait_s
        if self._next is not None:
            at = min(at, self._next.when())
            self._next.cancel()
        self._next = loop.call_at(at, self._follow, unsettled)

    def _follow(self, unsettled: Collection[Path]) -> None:
        self._next = None
        task = asyncio.create_task(self.apply(unsettled), name="site-values")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def configure_plane(self) -> None:
        """Give the data plane its devices, points and rules; what does not fit together keeps the last that did."""
        rules, unread = list(self.site.rules), ""
        for stored in self._ledger.rules.values():
            try:
                rules += parse_rules(stored)
            except GatewayError as error:  # an agent before this one could
                unread = f"rules '{stored.name}' do not hold: {error}"
        try:
            self._plane.configure(self.site.devices, self.site.points, rules)
        except GatewayError as error:
            log.warning("site_not_applied code=%s reason=%s", error.code, error)
            self._alarms.raise_alarm(SOURCE, "not_applied", Severity.MAJOR, str(error))
        else:
            if unread:
                self._alarms.raise_alarm(SOURCE, "not_applied", Severity.MAJOR, unread)
            else:
                self._alarms.clear_alarm(SOURCE, "not_applied")

    def parse(self, stored: StoredRule) -> tuple[RuleConfig, ...]:
        """Rules of a command, checked against those that stand; Mistakes or Malformed, and nothing has changed."""
        rules = parse_rules(stored)
        taken = {r.name: r.source for r in self.site.rules}
        for other in self._ledger.rules.values():
            if other.name != stored.name:
                with contextlib.suppress(GatewayError):  # it does not hold, and an alarm says so
                    taken.update({r.name: f"rules '{other.name}'" for r in parse_rules(other)})
        for rule in rules:
            if rule.name in taken:
                raise Malformed(
                    "rules.duplicate", f"rule '{rule.name}' stands in {taken[rule.name]} already", hint="rename it"
                )
        return rules

    def _on_change(self, change: Change) -> None:
        if change.rules or change.rules_gone:
            self.configure_plane()
        waiting = {a.instance for a in self.site.apps if self._ledger.meta.get(SEEN + a.instance) != seal(a)}
        if change.gone:
            self._refused.clear()  # an APP less: its owner, its ports, its share are free
        if change.gone or any(job.state.final and job.instance in waiting for job in change.jobs):
            self._apply_soon()

    async def _apply_apps(self) -> None:
        wanted = {a.instance: a for a in self.site.apps}
        for instance, app in wanted.items():
            mark = seal(app)
            if self._ledger.meta.get(SEEN + instance) == mark:
                self._alarms.clear_alarm(OF_APP + instance, "refused")
            elif self._refused.get(instance) != mark:
                await self._submit_app(app)
            self._say_what_lacks(app)
        if "apps" in self.site.missing or "apps" in self.site.empty:
            return  # an emptied or unmounted folder removes nothing
        for alarm in self._alarms.active():
            if alarm.source.startswith(OF_APP) and alarm.source.removeprefix(OF_APP) not in wanted:
                self._alarms.clear_alarm(alarm.source, alarm.code)
        for instance in [d.name for d in self._ledger.desired.values() if d.owner is Origin.FILE]:
            if instance not in wanted and not self._kept_alive(instance):
                await self._submit("app.remove", {"instance": instance}, instance, "")

    def _say_what_lacks(self, app: AppFile) -> None:
        """Values for an instance that is not there, or runs another APP, wait for their own, and say so."""
        said = {"no_app": "", "other_app": ""}
        name = app.instance
        if app.kind == "values" and name not in self._ledger.desired:
            said["no_app"] = f"apps.d/{name}: there is no APP instance '{name}'; these values wait for it"
        elif app.kind == "values" and (runs := self._deployer.app_of(name)) not in ("", app.app):
            words = f"instance '{name}' runs the APP '{runs}', these values are for '{app.app}' and not used"
            said["other_app"] = f"apps.d/{name}: {words}"
        for code, text in said.items():
            if text:
                self._alarms.raise_alarm(OF_APP + name, code, Severity.WARNING, text)
            else:
                self._alarms.clear_alarm(OF_APP + name, code)

    def _kept_alive(self, instance: str) -> bool:
        """A file of this instance is there but was never valid since the start: it must not remove what runs."""
        return any(
            Path(p.source).stem == instance or Path(p.source).parent.name == instance for p in self.site.problems
        )

    async def _submit_app(self, app: AppFile) -> None:
        exists = self._ledger.desired.get(app.instance)
        if app.kind == "manifest":
            kind = "app.upgrade" if exists else "app.install"
            params: dict[str, Any] = {"instance": app.instance, "manifest": app.text, "files": dict(app.files)}
            params["folder"] = str(app.folder or "")
            await self._submit(kind, params, app.instance, seal(app))
        elif exists and exists.current is not None and self._ledger.open_job(app.instance) is None:
            # A deployment under way is not disturbed: the values follow when it has ended.
            if self._deployer.app_of(app.instance) != app.app:
                return
            if exists.current.site == layer_of(app):
                mark = seal(app)  # its installation took them along
                await self._ledger.decide(lambda: Change(meta=((SEEN + app.instance, mark),)))
                return
            params = {"instance": app.instance, "values": dict(app.values), "ports": dict(app.ports)}
            if app.config is not None:
                params["config"] = dict(app.config)
            misfits = self._deployer.misfits(app.instance, LayerFrom(app.source, layer_of(app), app.document))
            await self._submit("app.configure", params, app.instance, seal(app), misfits)

    async def _submit(
        self, kind: str, params: Mapping[str, Any], instance: str, mark: str, misfits: Sequence[Problem] = ()
    ) -> None:
        """Have a command carried out. Where it is refused, `misfits` say why better than the reply, which has no file."""
        command = Command(f"file-{uuid.uuid4().hex}", kind, params, Origin.FILE, who=f"apps.d/{instance}")
        reply = await self._inbox.submit(command)
        if reply.ok:
            await self._ledger.decide(lambda: Change(meta=((SEEN + instance, mark),)))
            self._alarms.clear_alarm(OF_APP + instance, "refused")
        else:
            if reply.code in (400, 403, 404, 409):
                self._refused[instance] = mark
            why = " | ".join(str(each) for each in misfits) if reply.code == 400 and misfits else reply.msg
            log.warning("site_app_refused instance=%s code=%d reason=%s", instance, reply.code, why)
            self._alarms.raise_alarm(OF_APP + instance, "refused", Severity.MINOR, f"apps.d/{instance}: {why}")

    def _report(self) -> None:
        site = self.site
        if site.problems:
            more = f" (and {len(site.problems) - 1} more)" if len(site.problems) > 1 else ""
            message = f"{site.problems[0]}{more}; the last valid content stays in force"
            self._alarms.raise_alarm(SOURCE, "invalid", Severity.MINOR, message)
        else:
            self._alarms.clear_alarm(SOURCE, "invalid")
        if site.missing:
            message = f"{', '.join(f'{kind}.d' for kind in site.missing)} vanished or was emptied; nothing was removed"
            self._alarms.raise_alarm(SOURCE, "missing", Severity.MINOR, message)
        else:
            self._alarms.clear_alarm(SOURCE, "missing")
        log.info(
            "site_applied devices=%d rules=%d apps=%d problems=%d",
            len(site.devices), len(site.rules), len(site.apps), len(site.problems),
        )  # fmt: skip


def parse_rules(stored: StoredRule) -> tuple[RuleConfig, ...]:
    """The rules in an applied text; Mistakes with every problem."""
    return read_rules_text(stored.text, stored.name)


def layer_of(app: AppFile) -> Layer:
    """A site's values as a layer."""
    return Layer(values=app.values, config=app.config, ports=app.ports)


def seal(app: AppFile) -> str:
    """Changes whenever what the file says changes."""
    return hashlib.sha256(repr((app.kind, app.text, app.files, app.values, app.config, app.ports)).encode()).hexdigest()
