"""Messages from the cloud while the outbox takes nothing: none is lost, and none stands in the way of later ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from agent.cloud.dialects.ec import EcDialect
from agent.control.north.northbound import Northbound
from agent.control.north.wishes import Wishes
from agent.domain.command import Command, Reply
from agent.errors import Busy, Failed, NoSpace, TooLarge
from agent.ports import DesiredApp, DesiredIndex, DesiredRelease, OutRecord
from tests.control.rig import REGISTRY, Rig, manifest, running
from tests.fakes.link import FakeBroker, FakeLink

PLACES = 4


class FullOutbox:
    """Takes nothing until there is room, and nothing ever that is larger than `most_bytes`."""

    def __init__(self, most_bytes: int = 1_000_000) -> None:
        self.full = True
        self.most_bytes = most_bytes
        self.replies: list[tuple[str, int]] = []
        self.times_ms: list[int] = []
        self.jobs: list[tuple[str, str, str]] = []

    async def add(self, record: OutRecord) -> None:
        if self.full:
            raise NoSpace("outbox.full", "the outbox is full of critical records")
        if len(record.payload) > self.most_bytes:
            raise TooLarge("outbox.record_size", f"one record of {len(record.payload)} bytes")
        body = msgspec.json.decode(record.payload)
        if record.kind == "job":
            self.jobs.append((body["job"], body["state"], body["message"]))
            return
        self.replies.append((body["id"], body["code"]))
        self.times_ms.append(body["ts"])


@contextlib.asynccontextmanager
async def listening(rig: Rig, outbox: FullOutbox) -> AsyncIterator[FakeBroker]:
    broker, dialect = FakeBroker(), EcDialect("gw")
    link = FakeLink(broker, subscriptions=dialect.subscriptions(), receive_maximum=PLACES)
    north = Northbound(link, dialect, rig.room.inbox, rig.room.wishes, rig.room.ledger, outbox)
    await link.start()
    task, telling = asyncio.create_task(north.receive()), asyncio.create_task(north.tell_jobs())
    try:
        yield broker
    finally:
        await link.stop()
        await task
        telling.cancel()


async def test_replies_that_a_full_outbox_refused_come_when_there_is_room_and_give_their_places_back(
    tmp_path: Path,
) -> None:
    outbox = FullOutbox()
    async with running(tmp_path) as rig, listening(rig, outbox) as broker:
        broker.publish("ec/1/gw/command", b'{"id": "bad", "type": 5, "ts": 1}')
        for number in range(PLACES + 1):
            command = {"id": f"c{number}", "type": "app.list", "ts": rig.clock.now_ms()}
            broker.publish("ec/1/gw/command", msgspec.json.encode(command))
        await asyncio.sleep(0.2)
        assert outbox.replies == []
        outbox.full = False
        await rig.until(lambda: len(outbox.replies) == PLACES + 2, "all replies, without another connection")
        assert sorted(outbox.replies) == [("bad", 400), *((f"c{n}", 200) for n in range(PLACES + 1))]


async def test_a_reply_to_what_cannot_be_read_carries_the_time_as_every_reply_does(tmp_path: Path) -> None:
    outbox = FullOutbox()
    outbox.full = False
    async with running(tmp_path) as rig, listening(rig, outbox) as broker:
        before_ms = rig.clock.now_ms()
        broker.publish("ec/1/gw/command", b'{"id": "bad", "type": 5, "ts": 1}')
        await rig.until(lambda: outbox.replies == [("bad", 400)], "its reply")
        assert before_ms <= outbox.times_ms[-1] <= rig.clock.now_ms()


async def test_an_answer_that_no_message_can_carry_is_refused_in_its_place_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    outbox = FullOutbox(most_bytes=1000)
    outbox.full = False
    async with running(tmp_path) as rig, listening(rig, outbox) as broker:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
        for number in range(PLACES + 1):
            command = {
                "id": f"s{number}",
                "type": "app.status",
                "ts": rig.clock.now_ms(),
                "params": {"instance": "pump"},
            }
            broker.publish("ec/1/gw/command", msgspec.json.encode(command))
        await rig.until(lambda: len(outbox.replies) == PLACES + 1, "all replies")
        assert sorted(outbox.replies) == [(f"s{n}", 413) for n in range(PLACES + 1)]


async def test_a_job_whose_words_are_longer_than_a_message_is_told_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    outbox = FullOutbox(most_bytes=100_000)
    outbox.full = False
    async with running(tmp_path) as rig, listening(rig, outbox):
        rig.images.fail_next("pull", Failed("image.build_failed", "the command " + "x" * 200_000))
        long, short = [await rig.send("image.pull", image=f"{REGISTRY}/pump:{n}") for n in "12"]
        await rig.until(lambda: [each[:2] for each in outbox.jobs if each[1] == "done"] == [(short.job, "done")], "it")
        (words,) = [words for job, state, words in outbox.jobs if (job, state) == (long.job, "failed")]
        assert words.startswith("the command xxx")
        assert len(rig.job_now(long.job).message) > 200_000


class Later:
    """An inbox that has no room for a while."""

    def __init__(self) -> None:
        self.full = True
        self.seen = 0

    async def submit(self, command: Command) -> Reply:
        self.seen += 1
        return Reply(command.id, 507 if self.full else 202, "no space left")


async def test_a_revision_that_cannot_be_done_now_is_tried_at_one_pace_however_often_it_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        inbox = Later()
        wishes = Wishes(rig.room.ledger, inbox, retry_s=0.2)
        index = DesiredIndex(1, {"pump": DesiredApp("", "running", {})}, {})
        await wishes.take_index(index)
        for _ in range(20):
            with contextlib.suppress(Busy):
                await wishes.take_release(DesiredRelease("pump", "name: pump"))
        sent = inbox.seen
        await asyncio.sleep(0.7)
        assert 1 <= inbox.seen - sent <= 4
        inbox.full = False
        await rig.until(lambda: wishes.revision == 1, "the revision")
