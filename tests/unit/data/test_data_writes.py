"""Writes: checked, handed to one owner, answered once; never queued for somebody who is not there."""

from __future__ import annotations

import asyncio

import pytest

from agent.data.commands import MAX_WAITING
from agent.data.writes import WriteHub
from agent.domain.sample import Scalar
from agent.errors import Busy, Conflict, GatewayError, Malformed, NotFound, Refused, TimedOut, Unreachable
from tests.unit.data.parts import Rig, taken


async def write(rig: Rig, value: Scalar, point: str = "boiler/valve", mode: str = "direct", who: str = "ann") -> str:
    return (await rig.plane.writes.write(point, value, mode=mode, origin="local", who=who)).message


@pytest.mark.parametrize(
    ("point", "value", "kind", "code"),
    [
        ("boiler/none", 1, NotFound, "point.unknown"),
        ("boiler/temp", 1.0, Refused, "point.read_only"),
        ("boiler/valve", 101, Refused, "point.limits"),
        ("boiler/valve", -1, Refused, "point.limits"),
        ("boiler/valve", "open", Malformed, "point.type"),
        ("boiler/valve", 1.5, Malformed, "point.type"),
        ("boiler/valve", float("nan"), Malformed, "point.type"),
        ("boiler/pump", 2, Malformed, "point.type"),
    ],
)
async def test_a_wrong_write_is_refused_and_reaches_nobody(
    point: str, value: Scalar, kind: type[GatewayError], code: str
) -> None:
    rig = Rig().configure()
    commands = rig.plane.writes.attach("modbus-1")
    with pytest.raises(kind) as refused:
        await write(rig, value, point)
    assert refused.value.code == code
    assert taken(commands) == []


async def test_nobody_listening_is_unreachable_at_once_and_the_write_is_not_kept() -> None:
    rig = Rig().configure()
    with pytest.raises(Unreachable, match="nobody listens"):
        await write(rig, 5)
    assert taken(rig.plane.writes.attach("modbus-1")) == []


async def test_the_owners_answer_is_the_writers_answer() -> None:
    rig = Rig().configure()
    commands = rig.plane.writes.attach("modbus-1")
    for ok, message in ((True, "done"), (False, "register is locked")):
        waiting = asyncio.create_task(rig.plane.writes.write("boiler/valve", 5.0, origin="cloud", who="cloud"))
        command = await anext(commands)
        assert (command.value, command.device, command.origin) == (5, "boiler", "cloud")
        assert type(command.value) is int
        rig.plane.writes.answer("modbus-1", command.id, ok, message)
        answer = await waiting
        assert (answer.ok, answer.message, answer.id) == (ok, message, command.id)
        with pytest.raises(NotFound):
            rig.plane.writes.answer("modbus-1", command.id, True)


async def test_only_the_owner_can_answer() -> None:
    rig = Rig().configure()
    commands = rig.plane.writes.attach("modbus-1")
    waiting = asyncio.create_task(write(rig, 5))
    command = await anext(commands)
    with pytest.raises(NotFound):
        rig.plane.writes.answer("stranger", command.id, True)
    rig.plane.writes.answer("modbus-1", command.id, True)
    assert await waiting == "done"


async def test_no_answer_in_time_says_that_the_output_may_have_changed() -> None:
    rig = Rig().configure()
    hub = WriteHub(rig.plane.table, rig.clock, answer_timeout_s=0.01)
    commands = hub.attach("modbus-1")
    with pytest.raises(TimedOut, match="may have changed"):
        await hub.write("boiler/valve", 5, origin="local", who="ann")
    with pytest.raises(NotFound):
        hub.answer("modbus-1", commands.drain()[0].id, True)


async def test_when_the_app_goes_away_its_writes_fail_at_once() -> None:
    rig = Rig().configure()
    commands = rig.plane.writes.attach("modbus-1")
    waiting = asyncio.create_task(write(rig, 5))
    await asyncio.sleep(0)
    rig.plane.writes.detach(commands)
    assert "went away" in await waiting
    assert not rig.plane.writes.listening("modbus-1")
    assert [command async for command in commands] != []


async def test_a_second_stream_ends_the_first_and_only_it_gets_commands() -> None:
    rig = Rig().configure()
    first = rig.plane.writes.attach("modbus-1")
    second = rig.plane.writes.attach("modbus-1")
    assert [command async for command in first] == []
    rig.plane.writes.detach(first)
    rig.plane.writes.post("boiler/valve", 7, "rule:x", started_s=0.0)
    assert taken(second) == [("boiler/valve", 7)]


async def test_an_app_that_does_not_read_its_commands_becomes_busy_not_memory() -> None:
    rig = Rig().configure()
    rig.plane.writes.attach("modbus-1")
    for _ in range(MAX_WAITING):
        rig.plane.writes.post("boiler/valve", 7, "rule:x", started_s=0.0)
    with pytest.raises(Busy):
        rig.plane.writes.post("boiler/valve", 7, "rule:x", started_s=0.0)


async def test_select_then_operate_is_one_persons_and_one_value() -> None:
    rig = Rig().configure()
    commands = rig.plane.writes.attach("modbus-1")
    assert "selected" in await write(rig, 5, mode="select")
    for who, value, mode in (("bob", 5, "operate"), ("bob", 5, "direct"), ("bob", 5, "select"), ("bob", 5, "cancel")):
        with pytest.raises(Conflict, match="ann"):
            await write(rig, value, mode=mode, who=who)
    waiting = asyncio.create_task(write(rig, 5, mode="operate"))
    rig.plane.writes.answer("modbus-1", (await anext(commands)).id, True)
    assert await waiting == "done"
    with pytest.raises(Conflict):
        await write(rig, 5, mode="operate")
    await write(rig, 5, mode="select")
    with pytest.raises(Conflict):
        await write(rig, 6, mode="operate")
    await write(rig, 5, mode="select")
    assert await write(rig, 5, mode="cancel") == "cancelled"
    await write(rig, 5, mode="select")
    rig.timers.advance(31)
    assert "selected" in await write(rig, 9, mode="select", who="bob")
    with pytest.raises(Malformed):
        await write(rig, 9, mode="toggle")


async def test_a_remote_write_needs_a_clock_that_is_right() -> None:
    rig = Rig().configure()
    rig.plane.writes.attach("modbus-1")
    rig.clock.right = False
    with pytest.raises(Refused) as refused:
        await rig.plane.writes.write("boiler/valve", 5, origin="cloud", who="cloud")
    assert refused.value.code == "write.clock"


class Trial:
    """Which containers are of a version that has not proved itself."""

    def __init__(self, rig: Rig, *containers: str) -> None:
        self.unproven = set(containers)
        self.hub = rig.plane.writes
        self.hub.waits = lambda instance, caller: caller in self.unproven

    def ends(self, *containers: str) -> None:
        self.unproven = set(containers)
        self.hub.review("modbus-1")


async def test_a_version_on_trial_is_handed_no_command_before_it_has_proved_itself_and_every_one_after() -> None:
    rig = Rig().configure()
    trial = Trial(rig, "new")
    old = trial.hub.attach("modbus-1", "old")
    new = trial.hub.attach("modbus-1", "new")
    first = asyncio.create_task(write(rig, 5))
    command = await anext(old)
    trial.hub.answer("modbus-1", command.id, True)
    assert (await first, taken(new), old.ended) == ("done", [], False)
    trial.ends("old")
    assert old.ended
    late = trial.hub.attach("modbus-1", "old")
    second = asyncio.create_task(write(rig, 6))
    command = await anext(new)
    trial.hub.answer("modbus-1", command.id, True)
    assert (await second, command.value, taken(late)) == ("done", 6, [])
    for gone in (old, late):
        trial.hub.detach(gone)
    assert trial.hub.listening("modbus-1")


async def test_a_trial_that_fails_costs_the_proven_listener_nothing() -> None:
    rig = Rig().configure()
    trial = Trial(rig, "new")
    old, new = (trial.hub.attach("modbus-1", each) for each in ("old", "new"))
    again = trial.hub.attach("modbus-1", "new")
    assert (old.ended, new.ended, again.ended) == (False, True, False)
    first = asyncio.create_task(write(rig, 5))
    command = await anext(old)
    for gone in (new, again):
        trial.hub.detach(gone)
    trial.hub.answer("modbus-1", command.id, True)
    assert await first == "done"
    trial.hub.review("modbus-1")
    assert trial.hub.attach("modbus-1", "old").ended is False


async def test_who_waited_is_handed_the_write_that_comes_when_nobody_else_is_left() -> None:
    rig = Rig().configure()
    trial = Trial(rig, "new")
    new = trial.hub.attach("modbus-1", "new")
    with pytest.raises(Unreachable, match="nobody listens"):
        await write(rig, 5)
    trial.unproven = set()
    first = asyncio.create_task(write(rig, 6))
    command = await anext(new)
    trial.hub.answer("modbus-1", command.id, True)
    assert (await first, command.value) == ("done", 6)
