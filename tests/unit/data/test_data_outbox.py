"""The outbox and its pump: nothing lost, nothing out of order, critical first, forgotten only when acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.cloud.dialects.ec import EcDialect
from agent.data.outbox import Outbox
from agent.data.pump import Shorten
from agent.domain.priority import Priority
from agent.errors import Busy, NoSpace, TooLarge
from agent.ports import Dialect, Outgoing, OutRecord, Stored
from tests.fakes.hand_clock import HandClock
from tests.fakes.link import FakeBroker, FakeLink
from tests.fakes.outbox import FakeOutboxStore

CRITICAL, NORMAL, BULK = Priority.CRITICAL, Priority.NORMAL, Priority.BULK


def record(priority: Priority = NORMAL, kind: str = "data", note: int = 0) -> OutRecord:
    payload = b'{"items":[%d]}' % note if kind == "data" else b'{"note":%d}' % note
    return OutRecord(priority, kind, payload)


async def until(true: Callable[[], bool], deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def pumping(
    outbox: Outbox, broker: FakeBroker, dialect: Dialect | None = None, shorten: Shorten | None = None
) -> AsyncIterator[FakeLink]:
    link = FakeLink(broker)
    await link.start()
    task = asyncio.create_task(outbox.pump(link, dialect or EcDialect("gw"), shorten))
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await link.stop()


def received(broker: FakeBroker) -> list[tuple[str, str, int]]:
    bodies = [json.loads(message.payload) for message in broker.taken]
    return [(body["priority"], body["stream"], body["seq"]) for body in bodies if "seq" in body]


async def test_add_returns_after_the_commit_and_many_share_one() -> None:
    store = FakeOutboxStore()
    outbox = Outbox(store, HandClock())
    await asyncio.gather(*(outbox.add(record(note=n)) for n in range(100)))
    assert len(store.rows) == 100
    assert store.appends <= 3


async def test_while_the_link_is_down_it_is_history_and_when_caught_up_it_is_live() -> None:
    store, broker = FakeOutboxStore(), FakeBroker(running=False)
    outbox = Outbox(store, HandClock())
    async with pumping(outbox, broker):
        await outbox.add(record())
        broker.start()
        await until(lambda: len(broker.taken) == 1)
        await until(lambda: store.rows == {})
        await outbox.add(record())
        await until(lambda: len(broker.taken) == 2)
        broker.stop()
        await outbox.add(record())
        broker.start()
        await until(lambda: len(broker.taken) == 3)
    assert received(broker) == [("normal", "hist", 1), ("normal", "live", 1), ("normal", "hist", 2)]


async def test_after_an_outage_critical_comes_first() -> None:
    store, broker = FakeOutboxStore(), FakeBroker(running=False)
    outbox = Outbox(store, HandClock())
    async with pumping(outbox, broker):
        for priority in (BULK, NORMAL, NORMAL, CRITICAL):
            await outbox.add(record(priority, "event" if priority is CRITICAL else "data"))
        broker.start()
        await until(lambda: len(broker.taken) == 4)
    assert [priority for priority, _, _ in received(broker)] == ["critical", "normal", "normal", "bulk"]


async def test_a_critical_record_overtakes_a_backlog_that_is_being_drained() -> None:
    store, broker = FakeOutboxStore(), FakeBroker(running=False)
    outbox = Outbox(store, HandClock(), in_flight=5)
    async with pumping(outbox, broker):
        for number in range(500):
            outbox.add_soon(record(note=number))
        await outbox.flushed()
        broker.start()
        await until(lambda: len(broker.taken) > 20)
        seen = len(broker.taken)
        await outbox.add(record(CRITICAL, "event"))
        await until(lambda: store.rows == {}, 10)
    place = [priority for priority, _, _ in received(broker)].index("critical")
    assert place <= seen + 30


async def test_a_link_that_breaks_again_and_again_loses_nothing_and_keys_tell_duplicates() -> None:
    store, broker = FakeOutboxStore(), FakeBroker()
    outbox = Outbox(store, HandClock())
    async with pumping(outbox, broker):
        for number in range(300):
            outbox.add_soon(record(note=number))
            if number % 60 == 30:
                await asyncio.sleep(0.01)
                broker.stop()
                await asyncio.sleep(0.01)
                broker.start()
        await outbox.flushed()
        await until(lambda: store.rows == {}, 20)
    keys = set(received(broker))
    by_stream: dict[str, list[int]] = {}
    for _, stream, seq in keys:
        by_stream.setdefault(stream, []).append(seq)
    assert sum(map(len, by_stream.values())) == 300
    assert all(sorted(seqs) == list(range(1, len(seqs) + 1)) for seqs in by_stream.values())
    totals = (await store.depth())["totals"]
    assert sum(total["added_records"] for total in totals) == sum(total["sent_records"] for total in totals) == 300


async def test_a_frozen_broker_holds_no_more_than_the_allowed_number_in_flight() -> None:
    store, broker = FakeOutboxStore(), FakeBroker()
    outbox = Outbox(store, HandClock(), in_flight=20)
    async with pumping(outbox, broker):
        broker.freeze()
        for number in range(100):
            outbox.add_soon(record(note=number))
        await outbox.flushed()
        await until(lambda: outbox._pump.flying == 20)
        await asyncio.sleep(0.05)
        assert outbox._pump.flying == 20
        assert len(store.rows) == 100
        broker.thaw()
        await until(lambda: store.rows == {})


async def test_a_record_the_dialect_cannot_say_does_not_stop_the_rest() -> None:
    class Choosy(EcDialect):
        def encode(self, record: Stored) -> Outgoing:
            if record.payload == b'{"note":1}':
                raise TooLarge("cloud.too_large", "too large for the broker")
            return super().encode(record)

    store, broker = FakeOutboxStore(), FakeBroker()
    outbox = Outbox(store, HandClock())
    async with pumping(outbox, broker, Choosy("gw")):
        for number in range(3):
            await outbox.add(record(CRITICAL, "event", number))
        await until(lambda: store.rows == {})
        assert (await outbox.status())["refused"] == 1
    assert len(broker.taken) == 2


class Narrow(EcDialect):
    """Has room for nothing longer than a hundred bytes."""

    def encode(self, record: Stored) -> Outgoing:
        if len(record.payload) > 100:
            raise TooLarge("cloud.publish_too_large", "too large for the broker")
        return super().encode(record)


def half(stored: Stored) -> bytes | None:
    return None if stored.kind == "data" else stored.payload[: len(stored.payload) // 2]


async def test_less_goes_in_the_place_of_what_is_too_large_until_it_fits_and_what_has_no_less_is_given_up() -> None:
    store, broker = FakeOutboxStore(), FakeBroker()
    outbox = Outbox(store, HandClock())
    async with pumping(outbox, broker, Narrow("gw"), half):
        for kind, payload in (("reply", b"r" * 1000), ("data", b"d" * 1000), ("job", b"j" * 10)):
            await outbox.add(OutRecord(CRITICAL, kind, payload))
        await until(lambda: store.rows == {})
        assert (await outbox.status())["refused"] == 1
    assert [m.payload for m in broker.taken] == [b"r" * 62, b"j" * 10]


async def test_less_than_nothing_is_not_asked_for_again() -> None:
    store, broker = FakeOutboxStore(), FakeBroker()
    outbox = Outbox(store, HandClock())
    async with pumping(outbox, broker, Narrow("gw"), lambda stored: stored.payload):
        await outbox.add(OutRecord(CRITICAL, "reply", b"r" * 1000))
        await until(lambda: store.rows == {})
    assert broker.taken == []


async def test_a_full_disk_is_told_to_who_waits_and_the_rest_is_kept_and_written_later() -> None:
    store = FakeOutboxStore()
    outbox = Outbox(store, HandClock())
    store.failing = NoSpace("store.full", "no space left")
    outbox.add_soon(record(note=1))
    with pytest.raises(NoSpace):
        await outbox.add(record(note=2))
    assert "no space" in (await outbox.status())["blocked"]
    store.failing = None
    await until(lambda: len(store.rows) == 1)
    assert [stored.payload for stored in store.rows.values()] == [b'{"items":[1]}']
    await outbox.add(record(note=3))
    assert (await outbox.status())["blocked"] == ""


async def test_a_critical_record_without_room_is_refused_and_the_others_in_its_group_are_not() -> None:
    store = FakeOutboxStore(cap_bytes=1000)
    outbox = Outbox(store, HandClock())
    await outbox.add(OutRecord(CRITICAL, "event", b"x" * 700))
    results = await asyncio.gather(
        outbox.add(OutRecord(CRITICAL, "event", b"y" * 700)),
        outbox.add(OutRecord(CRITICAL, "event", b"z" * 10)),
        return_exceptions=True,
    )
    assert isinstance(results[0], NoSpace)
    assert results[1] is None


async def test_memory_is_bounded_while_the_disk_stands_still() -> None:
    store = FakeOutboxStore()
    store.failing = NoSpace("store.full", "no space left")
    outbox = Outbox(store, HandClock())
    for _ in range(10_000):
        outbox.add_soon(record())
    with pytest.raises(Busy):
        outbox.add_soon(record())
    with pytest.raises(TooLarge):
        outbox.add_soon(OutRecord(NORMAL, "data", b"x" * 2_000_000))


async def test_status_tells_hours_left_and_what_the_cloud_should_have() -> None:
    store, clock = FakeOutboxStore(cap_bytes=1_000_000), HandClock()
    outbox = Outbox(store, clock)
    for number in range(60):
        clock.mono_s += 10.0
        clock.wall_ms += 10_000
        await outbox.add(OutRecord(NORMAL, "data", b'{"items":[1,2]}' + b" " * 889, 2))
        assert number >= 0
    status = await outbox.status()
    assert status["records"] == {"critical": 0, "normal": 60, "bulk": 0}
    assert status["rate_bytes_per_s"] == pytest.approx(100, rel=0.05)
    assert status["hours_left"] == pytest.approx((1_000_000 - 60_000) / 100 / 3600, rel=0.06)
    assert status["oldest_age_s"] == 590
    assert status["streams"] == [{"priority": "normal", "stream": "hist", "last_seq": 60}]
    assert status["totals"][0]["added_samples"] == 120
    assert (status["connected"], status["drain_s"]) == (False, None)
