"""The cloud's declared wish for the whole gateway becomes commands, once for each revision.

An index says which instance shall run which release; the manifests come in documents of their own, in any order.
What is absent from the index is not the cloud's business; what is null goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.control.ledger import Ledger
from agent.control.north.documents import ACTED, Document, Mark, UsedDocuments, seal_of
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
BRINGS = ("app.install", "app.upgrade", "bundle.fetch")
"""Commands that bring an instance another release."""


class Submits(Protocol):
    """The inbox."""

    async def submit(self, command: Command) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Order:
    """One command of a revision. `about` names what it is for in words, `mark` the cloud's document that it uses."""

    about: str
    type: str
    params: Mapping[str, Any]
    mark: Mark | None = None


class Wishes:
    """Holds the newest index until every manifest it needs is here, then submits it.

    `on_news` is called when `waiting`, `refused` or `revision` say something new.
    """

    def __init__(self, ledger: Ledger, inbox: Submits, retry_s: float = RETRY_S) -> None:
        self._ledger = ledger
        self._inbox = inbox
        self._retry_s = retry_s
        self._index: DesiredIndex | None = None
        self._documents: dict[str, Document] = {}
        self._begun: tuple[int, Mapping[str, Document]] = (0, {})
        """A revision that is half done, and the documents that it is done with: a newer one is the next revision's."""
        self._used = UsedDocuments(ledger)
        self._lock = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused: dict[str, str] = {}
        self.waiting: dict[str, str] = {}
        self.on_news: list[Callable[[], None]] = []
        ledger.listen(self._on_change)

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
        if not release.manifest and self._spare([release.instance]):
            self._soon(self._forget([release.instance]))
        await self._act()

    async def take_bundle(self, bundle: DesiredBundle) -> None:
        """An instance's release by reference."""
        self._documents[bundle.instance] = bundle
        await self._act()

    # ---- when it acts ------------------------------------------------------------------------------------------

    async def _act(self) -> None:
        async with self._lock:
            index = self._index
            if index is None or index.revision <= self.revision:  # it came twice
                self._index = None
                return
            here = self._documents_for(index)
            self._wait_for(index, {n: _words(index, app, here.get(n)) for n, app in self._lacking(index, here)})
            if self.waiting:
                return
            self._index, self._begun = None, (index.revision, here)
            try:
                await self._submit_all(index, here)
            except GatewayError:
                if self._index is None:  # else a newer one came meanwhile
                    self._index = index
                self._retry()
                raise
            else:
                self._begun = (0, {})
            finally:
                self._tell()

    def _documents_for(self, index: DesiredIndex) -> Mapping[str, Document]:
        """Those of now, as one copy for all that is done with them; those it was begun with, as long as they do."""
        revision, begun = self._begun
        if revision == index.revision and not self._lacking(index, begun):
            return begun
        return dict(self._documents)

    def _lacking(self, index: DesiredIndex, here: Mapping[str, Document]) -> list[tuple[str, DesiredApp]]:
        """The instances whose release cannot be brought yet."""
        return [
            (name, app)
            for name, app in index.apps.items()
            if app
            and not self._used.runs(name, app.release)
            and not self._used.find(name, app.release, here.get(name, ""))
        ]

    def _wait_for(self, index: DesiredIndex, waiting: dict[str, str]) -> None:
        if waiting == self.waiting:
            return
        self.waiting = waiting
        if waiting:
            log.warning("desired_waits revision=%d for=%s", index.revision, ",".join(sorted(waiting)))
        self._tell()

    def _tell(self) -> None:
        for listener in self.on_news:
            listener()

    def _retry(self) -> None:
        """Try the open revision again after a while, and until it is done: the broker does so only after the next connect."""
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._act_until_done(), name="desired-retry")

    async def _act_until_done(self) -> None:
        while self._index is not None:
            await asyncio.sleep(self._retry_s)
            await self._by_itself(self._act())

    def _on_change(self, change: Change) -> None:
        """What a revision waits for may have come by another way; a bundle has become a release; an instance is gone."""
        names = {*(each.name for each in change.desired), *change.gone}
        hashes = {each.hash for each in change.releases}
        apps = self._index.apps if self._index else {}
        wanted = {app.release for name in self.waiting if (app := apps.get(name))}
        if names & self.waiting.keys() or hashes & wanted:
            self._soon(self._act())
        for job in change.jobs:
            mark = self._used.mark(job.instance)
            if mark.came == job.id and self._used.came_of(job.instance, job.id) != job.id:
                self._soon(self._learn(job.instance, mark, job.id))
        gone = [name for name in change.gone if self._documents.get(name) == ""]
        if self._spare(gone):
            self._soon(self._forget(gone))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._by_itself(work), name="desired-change")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _by_itself(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for it to be told what went wrong."""
        try:
            await work
        except GatewayError as error:
            log.warning("desired_postponed code=%s reason=%s", error.code, error)

    # ---- what is remembered of documents -----------------------------------------------------------------------

    async def _learn(self, name: str, mark: Mark, job_id: str) -> None:
        """Remember the job that brings a bundle, or what it became if it has done so."""

        def decision() -> Change:
            if self._used.mark(name) != mark:
                return Change()  # another order came
            return Change(meta=((ACTED + name, replace(mark, came=self._used.came_of(name, job_id)).row),))

        await self._ledger.decide(decision)

    def _spare(self, names: Iterable[str]) -> tuple[str, ...]:
        """An instance that is gone with its document needs no mark; while that lies there it could be taken for a new one."""
        kept, desired = self._ledger.meta, self._ledger.desired
        return tuple(ACTED + name for name in names if ACTED + name in kept and name not in desired)

    async def _forget(self, names: Collection[str]) -> None:
        async with self._lock:  # a revision that is just being done may bring one of them again
            await self._ledger.decide(lambda: Change(meta_gone=self._spare(names)))

    # ---- what it does ------------------------------------------------------------------------------------------

    async def _submit_all(self, index: DesiredIndex, here: Mapping[str, Document]) -> None:
        self.refused = {}
        # All of them first, without a pause: what was ready is so now, and need not be when the first are done.
        drafts = [(n, order) for n, app in index.apps.items() for order in self._orders(n, app, here.get(n, ""))]
        orders = [(name, await self._as_begun(index, name, order)) for name, order in drafts]
        marks = tuple((ACTED + name, order.mark.row) for name, order in orders if order.mark)
        if marks:  # before the first command: whatever is done half-way, what it was done with is known
            await self._ledger.decide(lambda: Change(meta=marks))
        for name, order in orders:
            # By its type, not by its place: after a kill half-way less is left to do, and the same id is answered
            # without an effect.
            reply = await self._submit(index, f"{name}-{order.type}", order)
            mark = self._used.mark(name)
            if reply.job and not mark.came and mark.seal == order.params.get("sha256"):
                await self._learn(name, mark, reply.job)
        for name, text in index.rules.items():
            type_, params = (
                ("rule.remove", {"name": name}) if text is None else ("rule.apply", {"name": name, "text": text})
            )
            await self._submit(index, f"rule-{name}", Order(f"rules {name}", type_, params))
        spare = self._spare(name for name, app in index.apps.items() if not app and not self._documents.get(name))
        revision = str(max(index.revision, self.revision))
        await self._ledger.decide(lambda: Change(meta=((REVISION, revision),), meta_gone=spare))

    async def _as_begun(self, index: DesiredIndex, name: str, order: Order) -> Order:
        """What brings a release once in a revision: answered already, it is asked for its answer only, under its old id."""
        if order.type in BRINGS:
            for type_ in BRINGS:
                if await self._ledger.journal.reply_to(f"desired-{index.revision}-{name}-{type_}"):
                    return replace(order, type=type_, mark=None)
        return order

    async def _submit(self, index: DesiredIndex, id_: str, order: Order) -> Reply:
        """One command of a revision. What cannot be done now but can be later is raised, and keeps the revision open."""
        command = Command(f"desired-{index.revision}-{id_}", order.type, order.params, Origin.CLOUD, who="desired")
        reply = await self._inbox.submit(command)
        if reply.code in LATER:
            raise Busy("desired.later", f"revision {index.revision} is not done: {order.about}: {reply.msg}")
        if not reply.ok:
            self.refused[order.about] = reply.msg
            log.warning("desired_refused revision=%d about=%r reason=%s", index.revision, order.about, reply.msg)
        return reply

    def _orders(self, name: str, app: DesiredApp | None, here: Document) -> list[Order]:
        """What brings an instance from what is desired now to what the index says."""
        desired = self._ledger.desired.get(name)
        if app is None:
            return [Order(name, "app.remove", {"instance": name})] if desired is not None else []
        # Starting and stopping come first: later they would replace the deployment that they belong to.
        orders = [] if desired is None else _hold(desired, app)
        values = {"values": dict(app.values), "exact": True}
        if not self._used.runs(name, app.release):
            kind = "app.install" if desired is None else "app.upgrade"
            found = self._used.find(name, app.release, here)
            mark = Mark(app.release, seal_of(found)) if found == here else None
            if isinstance(found, DesiredBundle):
                kind, what = "bundle.fetch", {"url": found.url, "sha256": found.sha256}
            else:
                what = {"manifest": found}
            orders.append(Order(name, kind, {"instance": name, **what, **values}, mark))
        elif (
            desired is not None
            and desired.current is not None
            and dict(desired.current.cloud.values) != dict(app.values)
        ):
            orders.append(Order(name, "app.configure", {"instance": name, **values}))
        if desired is None and app.state == "stopped":
            orders.append(Order(name, "app.stop", {"instance": name}))
        return orders


def _words(index: DesiredIndex, app: DesiredApp, found: Document | None) -> str:
    """What an instance waits for, and what to do where what it waits for lies there already."""
    words = f"revision {index.revision} waits for its document" + (f" of release {app.release}" if app.release else "")
    if not found:
        return words
    return (
        f"{words}; the one that is there was acted on for another release, or is another: if it is meant all the same"
        ' (its tags have moved), name release "", or write the digests of its images into it'
    )


def _hold(desired: Desired, app: DesiredApp) -> list[Order]:
    """What makes an instance run or stand still as the index says."""
    wanted = Wanted.STOPPED if app.state == "stopped" else Wanted.RUNNING
    if desired.wanted is wanted:
        return []
    params = {"instance": desired.name}
    start, stop = (Order(desired.name, type_, params) for type_ in ("app.start", "app.stop"))
    if wanted is Wanted.RUNNING:
        return [start]
    # What is on its way out must stay before it can be held.
    going = desired.wanted is not Wanted.RUNNING
    return [*([start] if going else []), stop]
