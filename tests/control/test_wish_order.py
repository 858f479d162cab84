"""Documents and indexes in any order, kills anywhere, other APPs changing: each release once, and never an old document.

Ledger and wishes are the real ones; the disk is one in memory that can lose its power, and what is ordered is there at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.ledger import Ledger
from agent.control.north.wishes import Wishes
from agent.domain.app import Desired, Layer, Version, Wanted
from agent.domain.command import Command, Job, Origin, Reply
from agent.domain.journal import Change, JournaledStep, Snapshot, StoredRelease, StoredRule, bring_in
from agent.errors import Busy
from agent.ports import DesiredApp, DesiredIndex, DesiredRelease
from tests.fakes.hand_clock import HandClock

NEVER_S = 3600.0


class KilledError(Exception):
    """The agent is no more."""


@dataclass
class Disk:
    """What survives a kill, which comes instead of the commit after `commits_left` others."""

    desired: dict[str, Desired] = field(default_factory=dict)
    releases: dict[str, StoredRelease] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    rules: dict[str, StoredRule] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)
    commits_left: int | None = None

    async def load(self) -> Snapshot:
        return Snapshot(tuple(self.desired.values()), tuple(self.releases.values()), (), (), (), dict(self.meta))

    async def commit(self, change: Change, now_ms: int) -> None:
        if self.commits_left is not None:
            if not self.commits_left:
                raise KilledError
            self.commits_left -= 1
        await asyncio.sleep(0)
        bring_in(change, self)
        if change.command and change.reply:
            self.replies[change.command.id] = change.reply

    async def reply_to(self, command_id: str) -> Reply | None:
        return self.replies.get(command_id)

    async def mark_told(self, job_id: str, updated_ms: int) -> None:
        return None

    async def begin_step(self, instance: str, step: str, now_ms: int) -> int:
        return 0

    async def end_step(self, number: int, ended: str) -> None:
        return None

    async def steps(self, instance: str, from_ms: int, to_ms: int) -> list[JournaledStep]:
        return []

    async def save_site(self, files: Mapping[str, bytes]) -> None:
        return None

    async def load_site(self) -> Mapping[str, bytes]:
        return {}


class Gateway:
    """Two instances: `x`, whose versions are counted, and `y`, which changes beside it."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        self.disk = Disk()
        self.name_of = name_of
        self.published = self.named = self.revision = 0
        self.index = DesiredIndex(0, {}, {})
        self.meant: dict[int, int] = {}
        self.adopted: list[tuple[int, int]] = []
        """Versions of `x` in the order in which they came, each with the version that the revision meant."""
        self.busy = 0

    async def start(self) -> None:
        self.disk.commits_left = None
        self.ledger = Ledger(self.disk, HandClock())
        await self.ledger.load()
        self.wishes = Wishes(self.ledger, self, retry_s=NEVER_S)

    async def submit(self, command: Command) -> Reply:
        known = await self.disk.reply_to(command.id)
        if known is not None:
            return known
        if self.busy:
            self.busy -= 1
            return Reply(command.id, 503, "not now")
        name, text = str(command.params["instance"]), str(command.params.get("manifest", ""))
        reply = Reply(command.id, 202)
        change = Change()
        if command.type in ("app.install", "app.upgrade"):
            version = Version(here(text), Layer(values=command.params["values"]))
            made = StoredRelease(version.release, text, name, {"image:1": "image@sha256:1"})
            change = Change(desired=(Desired(name, Origin.CLOUD, Wanted.RUNNING, version),), releases=(made,))
        await self.ledger.decide(lambda: change, answered=(command, reply))
        if change.desired and name == "x":
            self.adopted.append((int(text.removeprefix("x-")), self.meant[int(command.id.split("-")[1])]))
        return reply

    async def does(self, event: str) -> None:
        with contextlib.suppress(KilledError, Busy):
            await getattr(self, event)()
        for _ in range(12):
            await asyncio.sleep(0)
        if self.disk.commits_left == 0:
            await self.restart_index_first()

    # ---- what happens --------------------------------------------------------------------------------------------

    async def publish(self) -> None:
        """A document, at most one ahead of its index. Under a hash from elsewhere that must not come in the middle."""
        foreign = self.name_of("") == elsewhere("")
        if self.published > self.named or (
            foreign and self.published == self.named and self.wishes.revision != self.revision
        ):
            return
        self.published += 1
        await self.again()

    async def name(self) -> None:
        """An index that names the next version, at most one ahead of its document."""
        if self.named <= self.published:
            self.named += 1
            await self.declare()

    async def declare(self) -> None:
        """An index that differs in the other APP only."""
        self.revision += 1
        self.meant[self.revision] = self.named
        apps = {"a": DesiredApp("", "running", {"n": self.revision}), "y": DesiredApp("", "running", {})}
        if self.named:
            apps = {**apps, "x": DesiredApp(self.name_of(f"x-{self.named}"), "running", {})}
        self.index = DesiredIndex(self.revision, dict(sorted(apps.items())), {})
        await self.wishes.take_index(self.index)

    async def again(self) -> None:
        """What the broker keeps comes once more."""
        for name, text in {"a": "a-1", "y": "y-1", "x": f"x-{self.published}" if self.published else ""}.items():
            with contextlib.suppress(Busy):
                await self.wishes.take_release(DesiredRelease(name, text))

    async def restart_index_first(self) -> None:
        await self.start()
        with contextlib.suppress(Busy):
            await self.wishes.take_index(self.index)
        await self.again()

    async def restart_index_last(self) -> None:
        await self.start()
        await self.again()
        await self.wishes.take_index(self.index)

    async def be_busy(self) -> None:
        self.busy = 2

    async def be_killed(self) -> None:
        self.disk.commits_left = 2

    async def be_killed_late(self) -> None:
        self.disk.commits_left = 4


def seal(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def here(text: str) -> str:
    """The release that this gateway makes of a text."""
    return f"here-{text}"


def elsewhere(text: str) -> str:
    """The release that another gateway made of it."""
    return f"elsewhere-{text}"


EVENTS = (
    "publish", "name", "declare", "again", "restart_index_first", "restart_index_last",
    "be_busy", "be_killed", "be_killed_late",
)  # fmt: skip


async def live(name_of: Callable[[str], str], events: Sequence[str]) -> Gateway:
    """A gateway after these events, and after everything that was meant has come at last."""
    gateway = Gateway(name_of)
    await gateway.start()
    for event in events:
        await gateway.does(event)
    gateway.busy = 0
    await gateway.does("restart_index_first")
    if not gateway.named:
        await gateway.does("name")
    await gateway.does("publish" if gateway.published < gateway.named else "again")
    if gateway.named < gateway.published:
        await gateway.does("name")
    await gateway.does("declare")
    return gateway


@pytest.mark.parametrize("name_of", [here, seal, elsewhere])
@settings(max_examples=300)
@given(events=st.lists(st.sampled_from(EVENTS), max_size=24))
def test_each_release_comes_once_and_by_its_own_document_in_whatever_order_they_come(
    name_of: Callable[[str], str], events: list[str]
) -> None:
    gateway = asyncio.run(live(name_of, events))
    versions = [version for version, _ in gateway.adopted]
    assert (gateway.wishes.revision, gateway.wishes.waiting) == (gateway.revision, {})
    assert versions == sorted(set(versions)), "each once, and none that is older than one before"
    assert all(version >= meant for version, meant in gateway.adopted), "never an old document for a new release"
    assert versions[-1] == gateway.named == gateway.published
