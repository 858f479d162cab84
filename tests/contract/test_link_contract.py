"""What every link promises: tests/fakes/link.py and PahoLink on a real mosquitto alike. The bad days first."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import Unreachable
from tests.contract.link_lab import (
    COMMAND,
    ROOT,
    WILL,
    FakeLab,
    LinkLab,
    RealLab,
    nothing_more,
    payloads,
    running,
    soon,
    take,
    until,
)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.broker)])
def lab(request: pytest.FixtureRequest) -> LinkLab:
    if request.param == "fake":
        return FakeLab()
    return RealLab(request.getfixturevalue("own_broker"))


async def test_it_connects_by_itself_to_a_broker_that_was_down_at_boot(lab: LinkLab) -> None:
    lab.stop()
    link = lab.link()
    changes = link.changes()
    await link.start()
    assert not link.connected
    lab.start()
    assert await soon(changes) is True
    assert link.connected
    await link.stop()


async def test_publish_while_offline_is_unreachable_at_once_and_queues_nothing(lab: LinkLab) -> None:
    lab.stop()
    link = lab.link()
    await link.start()
    with pytest.raises(Unreachable) as caught:
        await link.publish(f"{ROOT}/event", b"never")
    assert caught.value.code == "cloud.offline"
    lab.start()
    seen = lab.watch()
    await until(lambda: link.connected, "the link is connected")
    await link.publish(f"{ROOT}/event", b"now")
    await until(lambda: bool(seen(f"{ROOT}/event")), "the event is seen")
    assert seen(f"{ROOT}/event") == [b"now"]
    await link.stop()


async def test_publish_without_an_acknowledgement_is_unreachable_by_its_deadline(lab: LinkLab) -> None:
    async with running(lab.link(publish_timeout_s=0.3)) as link:
        lab.freeze()
        try:
            with pytest.raises(Unreachable) as caught:
                await link.publish(f"{ROOT}/event", b"?")
        finally:
            lab.thaw()
        assert caught.value.code == "cloud.no_ack"


async def test_publish_that_waits_when_the_broker_dies_is_unreachable(lab: LinkLab) -> None:
    async with running(lab.link()) as link:
        lab.freeze()
        waiting = [asyncio.create_task(link.publish(f"{ROOT}/event", b"?")) for _ in range(5)]
        await asyncio.sleep(0.05)
        lab.kill()
        for task in waiting:
            with pytest.raises(Unreachable) as caught:
                await task
            assert caught.value.code == "cloud.offline"
        lab.start()
        await until(lambda: link.connected, "the link is connected again")


async def test_an_unacknowledged_command_comes_again_after_the_broker_was_restarted(lab: LinkLab) -> None:
    async with running(lab.link()) as link:
        messages, changes = link.messages(), link.changes()
        assert await soon(changes) is True
        lab.publish(COMMAND, b"1")
        lab.publish(COMMAND, b"2")
        first, second = await take(messages, 2)
        first.ack()
        await link.publish(f"{ROOT}/event", b"so the acknowledgement has been read")
        lab.stop()
        assert await soon(changes) is False
        lab.start()
        assert await soon(changes) is True
        again = await soon(messages)
        assert again.payload == second.payload == b"2"
        second.ack()  # of the old connection: says nothing about the new one
        again.ack()
        await link.publish(f"{ROOT}/event", b"and this one too")
        lab.stop()
        lab.start()
        await until(lambda: link.connected, "the link is connected again")
        await nothing_more(messages)


async def test_commands_sent_while_it_was_away_wait_at_the_broker(lab: LinkLab) -> None:
    async with running(lab.link()):
        pass
    lab.publish(COMMAND, b"a")
    lab.publish(COMMAND, b"b")
    async with running(lab.link()) as link:
        assert payloads(await take(link.messages(), 2)) == [b"a", b"b"]


async def test_a_command_too_late_is_dropped_by_the_broker_and_the_rest_of_its_time_is_told(lab: LinkLab) -> None:
    async with running(lab.link()):
        pass
    lab.publish(COMMAND, b"late", expiry_s=1)
    lab.publish(COMMAND, b"in time", expiry_s=600)
    lab.publish(COMMAND, b"for ever")
    await asyncio.sleep(2.1)
    async with running(lab.link()) as link:
        in_time, forever = await take(link.messages(), 2)
    assert (in_time.payload, forever.payload) == (b"in time", b"for ever")
    assert in_time.expiry_left_s is not None
    assert 590 <= in_time.expiry_left_s < 600
    assert forever.expiry_left_s is None


async def test_no_more_than_the_bound_wait_unacknowledged_and_none_is_lost(lab: LinkLab) -> None:
    async with running(lab.link()) as link:
        lab.publish_many(COMMAND, [b"%d" % number for number in range(80)])
        messages = link.messages()
        held = await take(messages, 32)
        await nothing_more(messages)
        for message in held:
            message.ack()
            message.ack()  # twice is once
        got = payloads(held)
        messages = link.messages()
        while len(got) < 80:
            message = await soon(messages)
            got.append(message.payload)
            message.ack()
        assert got == [b"%d" % number for number in range(80)]


async def test_a_retained_message_is_told_from_a_live_one(lab: LinkLab) -> None:
    lab.publish(COMMAND, b"kept", retain=True)
    async with running(lab.link()) as link:
        messages = link.messages()
        kept = await soon(messages)
        kept.ack()
        lab.publish(COMMAND, b"live")
        live = await soon(messages)
        live.ack()
    assert (kept.payload, kept.retained) == (b"kept", True)
    assert (live.payload, live.retained) == (b"live", False)


async def test_stop_says_goodbye_with_the_words_of_the_will_and_ends_the_iterators(lab: LinkLab) -> None:
    seen = lab.watch()
    link = lab.link()
    await link.start()
    await until(lambda: link.connected, "the link is connected")
    messages, changes = link.messages(), link.changes()
    assert await soon(changes) is True
    waiting = asyncio.ensure_future(anext(messages, None))
    await link.stop()
    assert await waiting is None
    assert [word async for word in changes] == [False]
    await until(lambda: bool(seen(WILL.topic)), "the goodbye is seen")
    assert seen(WILL.topic) == [WILL.payload]
    with pytest.raises(Unreachable):
        await link.publish(f"{ROOT}/event", b"never")


async def test_every_listener_hears_every_change(lab: LinkLab) -> None:
    async with running(lab.link()) as link:
        early, late = link.changes(), link.changes()
        assert (await soon(early), await soon(late)) == (True, True)
        lab.stop()
        assert (await soon(early), await soon(late)) == (False, False)
        lab.start()
        assert (await soon(early), await soon(late)) == (True, True)


async def test_a_publish_that_is_cancelled_leaves_the_link_working(lab: LinkLab) -> None:
    async with running(lab.link()) as link:
        lab.freeze()
        task = asyncio.create_task(link.publish(f"{ROOT}/event", b"?"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        lab.thaw()
        await link.publish(f"{ROOT}/event", b"!")
