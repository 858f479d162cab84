"""Rules: first, synchronous, once per episode, never on bad ground, never in a circle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.data.commands import CommandStream
from agent.data.rule import LOOP_FIRINGS
from agent.domain.alarm import Severity
from agent.domain.priority import Priority
from agent.domain.rule import AlarmAction, ClearAction, EventAction, OnBad, RuleConfig, Silence, WriteAction
from agent.domain.sample import DeviceConfig, PointConfig, Quality, Sample
from agent.errors import Malformed
from tests.unit.data.parts import BOILER, Rig, taken

HOT = RuleConfig(
    "hot",
    (("temp", "boiler/temp"),),
    "temp.value > 100",
    then=(WriteAction("boiler/valve", 0), AlarmAction("too_hot", Severity.MAJOR, "Too hot")),
    otherwise=(WriteAction("boiler/valve", 50), ClearAction("too_hot")),
    source="rules.yaml:3",
)


def row(rig: Rig, name: str = "hot") -> dict[str, Any]:
    return next(each for each in rig.plane.rules.status() if each["name"] == name)


def active(rig: Rig) -> list[str]:
    return [alarm.key for alarm in rig.plane.alarms.active()]


async def start(*rules: RuleConfig) -> tuple[Rig, CommandStream]:
    rig = Rig().configure(*rules)
    return rig, rig.plane.writes.attach("modbus-1")


async def test_the_write_is_on_the_owners_stream_before_accept_returns() -> None:
    rig, commands = await start(HOT)
    delivered: list[int] = []
    commands.on_ready = lambda: delivered.append(len(commands.drain()))
    rig.plane.ingest.accept("modbus-1", [Sample("boiler/temp", 101.0)])
    assert delivered == [1]
    assert rig.store.rows == {}, "nothing was stored yet"
    assert row(rig)["latency"]["count"] == 1


async def test_it_acts_once_when_it_begins_to_hold_and_once_when_it_ends() -> None:
    rig, commands = await start(HOT)
    rig.feed("boiler/temp", 99.0, 101.0, 102.0, 103.0)
    assert taken(commands) == [("boiler/valve", 0)]
    assert active(rig) == ["rule:hot/too_hot"]
    rig.feed("boiler/temp", 99.0, 98.0)
    assert taken(commands) == [("boiler/valve", 50)]
    assert active(rig) == []
    assert (row(rig)["fired"], row(rig)["returned"], row(rig)["state"]) == (1, 1, "idle")
    states = [item["state"] for item in await rig.sent(Priority.CRITICAL)]
    assert states == ["raise", "clear"]


async def test_for_duration_uses_time_that_cannot_jump() -> None:
    rig, commands = await start(replace(HOT, for_s=5.0))
    rig.feed("boiler/temp", 101.0)
    rig.clock.jump(3600)
    rig.timers.advance(4.9)
    assert taken(commands) == []
    assert row(rig)["state"] == "pending"
    rig.timers.advance(0.2)
    assert taken(commands) == [("boiler/valve", 0)]


async def test_for_duration_begins_anew_after_a_break() -> None:
    rig, commands = await start(replace(HOT, for_s=5.0))
    rig.feed("boiler/temp", 101.0, 101.0, 99.0, 101.0)
    rig.timers.advance(4.0)
    assert taken(commands) == []
    rig.timers.advance(1.1)
    assert taken(commands) == [("boiler/valve", 0)]


@pytest.mark.parametrize(
    ("on_bad", "after_good_true", "after_good_false"),
    [(OnBad.HOLD, "active", "idle"), (OnBad.FALSE, "idle", "idle"), (OnBad.TRUE, "active", "active")],
)
async def test_a_bad_input_holds_or_counts_as_the_rule_says(
    on_bad: OnBad, after_good_true: str, after_good_false: str
) -> None:
    for value, state in ((101.0, after_good_true), (50.0, after_good_false)):
        rig, _ = await start(replace(HOT, on_bad=on_bad))
        rig.feed("boiler/temp", value)
        rig.plane.ingest.accept("modbus-1", [rig.sample("boiler/temp", 0.0, q=Quality.BAD)])
        assert row(rig)["state"] == state


async def test_an_evaluation_error_counts_raises_one_alarm_and_fires_nothing() -> None:
    rule = replace(
        HOT, inputs=(("temp", "boiler/temp"), ("valve", "boiler/valve")), when="temp.value / valve.value > 1"
    )
    rig, commands = await start(rule)
    rig.feed("boiler/valve", 0)
    rig.feed("boiler/temp", 5.0, 6.0, 7.0)
    assert taken(commands) == []
    assert active(rig) == ["rule:hot/rule.error"]
    assert row(rig)["errors"] == 3
    assert "divides by zero" in row(rig)["last_error"]
    assert [alarm.count for alarm in rig.plane.alarms.active()] == [1]
    rig.feed("boiler/valve", 10)
    assert active(rig) == []


async def test_history_never_enters_a_rule() -> None:
    rig, commands = await start(HOT)
    rig.feed("boiler/temp", 50.0)
    rig.plane.ingest.accept("modbus-1", [rig.sample("boiler/temp", 140.0, ago_s=60)])
    assert taken(commands) == []


async def test_a_rule_without_a_value_of_every_input_waits() -> None:
    rule = replace(HOT, inputs=(("temp", "boiler/temp"), ("other", "boiler/later")), when="temp.value > other.value")
    rig, commands = await start(rule)
    rig.feed("boiler/temp", 101.0)
    assert row(rig)["state"] == "idle"
    rig.configure(rule)
    later = PointConfig("boiler/later", device="boiler")
    rig.plane.table.configure([DeviceConfig("boiler", "modbus-1", points=(*BOILER.points, later))], ())
    rig.feed("boiler/later", 1.0)
    assert taken(commands) == [("boiler/valve", 0)]


async def test_rate_previous_and_age_are_what_they_say() -> None:
    rule = replace(HOT, when="temp.rate > 4 && temp.previous < 20 && temp.age_s < 1", otherwise=())
    rig, commands = await start(rule)
    rig.feed("boiler/temp", 10.0, 12.0)
    assert taken(commands) == []
    rig.feed("boiler/temp", 22.0, step_s=2.0)
    assert taken(commands) == [("boiler/valve", 0)]


async def test_a_rule_that_drives_itself_is_stopped_with_an_alarm() -> None:
    rule = RuleConfig(
        "swing", (("valve", "boiler/valve"),), "valve.value > 50",
        then=(WriteAction("boiler/valve", 0),), otherwise=(WriteAction("boiler/valve", 100),),
    )  # fmt: skip
    rig, commands = await start(rule)

    def obey() -> None:
        for command in commands.drain():
            rig.plane.ingest.accept("modbus-1", [Sample(command.point, command.value)])

    commands.on_ready = obey
    rig.feed("boiler/valve", 100)
    assert row(rig, "swing")["state"] == "stopped"
    assert active(rig) == ["rule:swing/rule.loop"]
    fired = row(rig, "swing")["fired"]
    rig.feed("boiler/valve", 0, 100, 0, 100)
    assert row(rig, "swing")["fired"] == fired
    rig.configure(replace(rule, when="valve.value > 1000"))
    assert row(rig, "swing")["state"] == "idle"
    assert active(rig) == []


async def test_a_circle_of_two_rules_through_a_slow_driver_is_stopped_too() -> None:
    up = RuleConfig(
        "up", (("t", "boiler/temp"),), "t.value > 50",
        then=(WriteAction("boiler/valve", 0),), otherwise=(WriteAction("boiler/valve", 100),),
    )  # fmt: skip
    down = replace(up, name="down", inputs=(("t", "boiler/valve"),), then=(WriteAction("boiler/temp", 0.0),))
    temp = PointConfig("boiler/temp", device="boiler", writable=True)
    rig = Rig().configure(up, down, devices=[DeviceConfig("boiler", "modbus-1", points=(temp, BOILER.points[1]))])
    rig.plane.writes.attach("modbus-1")
    for _ in range(LOOP_FIRINGS):
        rig.feed("boiler/temp", 100.0, 0.0, step_s=0.1)
    assert row(rig, "up")["state"] == "stopped"


async def test_quick_firing_without_a_circle_is_not_stopped() -> None:
    rig, _ = await start(HOT)
    rig.feed("boiler/temp", *[101.0, 99.0] * 200, step_s=0.001)
    assert (row(rig)["fired"], row(rig)["state"]) == (200, "idle")


async def test_silence_acts_once_and_is_over_when_the_input_speaks_again() -> None:
    quiet = AlarmAction("quiet", Severity.MINOR, "no values")
    rig, _ = await start(replace(HOT, silence=Silence(10.0, (quiet,))))
    rig.feed("boiler/temp", 50.0)
    rig.timers.advance(9.0)
    assert active(rig) == []
    rig.timers.advance(31.0)
    assert active(rig) == ["rule:hot/quiet"]
    assert [alarm.count for alarm in rig.plane.alarms.active()] == [1]
    rig.feed("boiler/temp", 50.0)
    assert active(rig) == []
    rig.timers.advance(11.0)
    assert active(rig) == ["rule:hot/quiet"]


async def test_an_action_that_fails_does_not_stop_the_others_and_raises_one_alarm() -> None:
    rig = Rig().configure(HOT)
    rig.feed("boiler/temp", 101.0, 99.0, 101.0)
    assert sorted(active(rig)) == ["rule:hot/rule.action", "rule:hot/too_hot"]
    commands = rig.plane.writes.attach("modbus-1")
    rig.feed("boiler/temp", 99.0)
    assert active(rig) == []
    rig.plane.writes.answer("modbus-1", commands.drain()[0].id, False, "register is locked")
    (alarm,) = rig.plane.alarms.active()
    assert (alarm.key, alarm.message) == ("rule:hot/rule.action", "register is locked")


async def test_an_event_goes_up_with_the_rules_name_and_priority() -> None:
    rig, _ = await start(replace(HOT, then=(EventAction("overheat", {"limit": 100}),)))
    rig.feed("boiler/temp", 101.0)
    (event,) = await rig.sent(Priority.CRITICAL)
    assert {k: event[k] for k in ("type", "rule", "name", "data")} == {
        "type": "event", "rule": "hot", "name": "overheat", "data": {"limit": 100}
    }  # fmt: skip


async def test_a_rule_that_does_not_compile_leaves_all_rules_as_they_were() -> None:
    rig, commands = await start(HOT)
    with pytest.raises(Malformed, match=r"rules.yaml:9.*presure"):
        rig.configure(
            replace(HOT, when="temp.value > 500"),
            replace(HOT, name="b", when="presure.value > 1", source="rules.yaml:9"),
        )
    rig.feed("boiler/temp", 101.0)
    assert taken(commands) == [("boiler/valve", 0)]


async def test_a_changed_limit_acts_at_once_on_the_value_of_now() -> None:
    rig, commands = await start(HOT)
    rig.feed("boiler/temp", 90.0)
    rig.configure(replace(HOT, when="temp.value > 80"))
    assert taken(commands) == [("boiler/valve", 0)]
    rig.configure(replace(HOT, when="temp.value > 95"))
    assert taken(commands) == [("boiler/valve", 50)]
    assert active(rig) == []


async def test_an_unchanged_rule_goes_on_and_a_removed_one_takes_its_alarms_along() -> None:
    rig, commands = await start(HOT)
    rig.feed("boiler/temp", 101.0)
    rig.configure(HOT)
    assert len(taken(commands)) == 1
    rig.configure()
    assert active(rig) == []
    rig.feed("boiler/temp", 99.0, 101.0)
    assert taken(commands) == []


async def test_after_a_restart_an_alarm_that_stood_is_cleared_by_its_rule() -> None:
    rig, _ = await start(HOT)
    rig.feed("boiler/temp", 101.0)
    await rig.plane.alarms.settled()
    again = Rig(alarm_store=rig.alarm_store)
    await again.plane.start()
    again.configure(HOT)
    again.plane.writes.attach("modbus-1")
    assert active(again) == ["rule:hot/too_hot"]
    again.feed("boiler/temp", 50.0)
    assert active(again) == []


async def test_a_write_that_found_no_driver_is_made_as_soon_as_one_listens() -> None:
    rig = Rig().configure(HOT)
    rig.feed("boiler/temp", 101.0)
    assert "rule:hot/rule.action" in active(rig)
    commands = rig.plane.writes.attach("modbus-1")
    (command,) = commands.drain()
    assert (command.point, command.value) == ("boiler/valve", 0)
    rig.plane.writes.answer("modbus-1", command.id, True)
    assert active(rig) == ["rule:hot/too_hot"]


async def test_a_lost_write_of_a_state_that_the_rule_has_left_is_never_made() -> None:
    rig = Rig().configure(HOT)
    rig.feed("boiler/temp", 101.0, 50.0)
    assert taken(rig.plane.writes.attach("modbus-1")) == [("boiler/valve", 50)]


async def test_a_write_that_failed_at_the_device_is_made_again_with_growing_pauses() -> None:
    rig, commands = await start(HOT)
    rig.feed("boiler/temp", 101.0)
    made: list[int] = []
    waiting = commands.drain()
    for pause_s in (0.9, 0.2, 1.9, 0.2, 3.9, 0.2):
        for command in waiting:
            rig.plane.writes.answer("modbus-1", command.id, False, "the device is away")
        rig.timers.advance(pause_s)
        waiting = commands.drain()
        made.append(len(waiting))
    assert made == [0, 1, 0, 1, 0, 1]
    assert active(rig).count("rule:hot/rule.action") == 1
    rig.plane.writes.answer("modbus-1", waiting[0].id, True)
    rig.timers.advance(120)
    assert taken(commands) == []
    assert active(rig) == ["rule:hot/too_hot"]


async def test_a_write_that_will_never_be_allowed_is_not_made_again() -> None:
    rig, commands = await start(replace(HOT, then=(WriteAction("boiler/valve", 101),)))
    rig.feed("boiler/temp", 101.0)
    rig.timers.advance(120)
    assert taken(commands) == []


async def test_a_write_owed_by_a_rule_that_was_taken_away_is_forgotten() -> None:
    rig = Rig().configure(HOT)
    rig.feed("boiler/temp", 101.0)
    rig.configure()
    assert taken(rig.plane.writes.attach("modbus-1")) == []
