"""Samples in: bad ones refused with their index and nothing changed, odd times marked, the rest reduced."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agent.domain.override import PointOverride
from agent.domain.priority import Priority
from agent.domain.sample import DeviceConfig, PointConfig, Quality, Sample, Scalar
from agent.errors import Busy, GatewayError, Malformed, Refused, TooLarge
from tests.unit.data.parts import BOILER, Rig

GOOD = Sample("boiler/temp", 20.0)


def snapshot(rig: Rig) -> Any:
    table = rig.plane.table
    return {name: table.describe(name) for name in table.names()}


@pytest.mark.parametrize(
    ("wrong", "kind", "code", "field"),
    [
        (Sample("boiler/temp", "hot"), Malformed, "sample.value", "1.v"),
        (Sample("boiler/temp", True), Malformed, "sample.value", "1.v"),
        (Sample("boiler/temp", math.nan), Malformed, "sample.value", "1.v"),
        (Sample("boiler/temp", math.inf), Malformed, "sample.value", "1.v"),
        (Sample("boiler/temp", -1e301), Malformed, "sample.value", "1.v"),
        (Sample("boiler/valve", 1.0), Malformed, "sample.value", "1.v"),
        (Sample("boiler/valve", 2**70), Malformed, "sample.value", "1.v"),
        (Sample("boiler/pump", 1), Malformed, "sample.value", "1.v"),
        (Sample("boiler/state", "x" * 2000), Malformed, "sample.value", "1.v"),
        (Sample("boiler/temp", 1.0, -5), Malformed, "sample.time", "1.t"),
        (Sample("boiler/temp", 1.0, 2**60), Malformed, "sample.time", "1.t"),
        (Sample("boiler/none", 1.0), Refused, "point.not_owner", None),
        (Sample("", 1.0), Malformed, "point.name", "1.p"),
        (Sample("a//b", 1.0), Malformed, "point.name", "1.p"),
        (Sample("x" * 1000, 1.0), Malformed, "point.name", "1.p"),
    ],
)
async def test_one_wrong_sample_refuses_the_batch_by_its_index_and_changes_nothing(
    wrong: Sample, kind: type[GatewayError], code: str, field: str | None
) -> None:
    rig = Rig().configure()
    before = snapshot(rig)
    with pytest.raises(kind) as refused:
        rig.plane.ingest.accept("modbus-1", [GOOD, wrong, GOOD])
    assert (refused.value.code, refused.value.fields["index"]) == (code, 1)
    assert refused.value.fields.get("field") == field
    assert "sample 1" in refused.value.message
    assert refused.value.hint
    assert snapshot(rig) == before
    assert await rig.sent() == []


async def test_a_huge_batch_is_refused_whole() -> None:
    rig = Rig().configure()
    with pytest.raises(TooLarge):
        rig.plane.ingest.accept("modbus-1", [GOOD] * 10_001)
    assert rig.plane.table.latest("boiler/temp") is None


async def test_a_point_has_one_owner_and_the_refusal_does_not_tell_what_exists() -> None:
    rig = Rig().configure()
    messages = []
    for name in ("boiler/temp", "boiler/nothing"):
        with pytest.raises(Refused) as refused:
            rig.plane.ingest.accept("stranger", [Sample(name, 1.0)])
        messages.append((refused.value.code, refused.value.message.replace(name, "x"), refused.value.hint))
    assert messages[0] == messages[1]


async def test_an_app_may_make_points_appear_within_its_filters_and_no_more_than_the_bound() -> None:
    rig = Rig().configure()
    rig.plane.table._max_undeclared = 3
    rig.plane.table.set_publishers({"guard": ["guard/#"]})
    rig.plane.ingest.accept("guard", [Sample("guard/a", 1.0), Sample("guard/b", True), Sample("guard/a", 2)])
    with pytest.raises(Busy) as busy:
        rig.plane.ingest.accept("guard", [Sample(f"guard/n{n}", 1.0) for n in range(1000)])
    assert busy.value.fields["retry_after_s"]
    assert rig.plane.table.names("guard/#") == ["guard/a", "guard/b"]
    rig.plane.ingest.accept("guard", [Sample("guard/c", "x")])
    rig.plane.ingest.accept("guard", [Sample("guard/a", 3.0)])
    with pytest.raises(Refused):
        rig.plane.ingest.accept("guard", [Sample("other/a", 1.0)])


async def test_the_type_of_a_new_point_is_that_of_its_first_sample_within_the_batch_too() -> None:
    rig = Rig().configure()
    rig.plane.table.set_publishers({"guard": ["guard/#"]})
    with pytest.raises(Malformed) as refused:
        rig.plane.ingest.accept("guard", [Sample("guard/a", True), Sample("guard/a", 1.0)])
    assert refused.value.fields["index"] == 1
    assert rig.plane.table.names("guard/#") == []


async def test_an_override_sets_a_published_point_by_filter_and_by_name() -> None:
    rig = Rig()
    rig.override(
        PointOverride("guard/speed", {"unit": "rpm"}, "speed.yaml:2"),
        PointOverride("guard/#", {"unit": "1", "window_s": 5.0}, "guard.yaml:2"),
    )
    rig.plane.table.set_publishers({"guard": ["guard/#"]})
    rig.plane.ingest.accept("guard", [Sample("guard/speed", 1.0)])
    config = rig.plane.table.config("guard/speed")
    assert config is not None
    assert (config.unit, config.window_s, config.owner) == ("rpm", 5.0, "guard")


async def test_a_point_that_nobody_may_publish_any_more_goes() -> None:
    rig = Rig().configure()
    rig.plane.table.set_publishers({"guard": ["guard/#"]})
    rig.plane.ingest.accept("guard", [Sample("guard/a", 1.0)])
    rig.plane.table.set_publishers({})
    assert rig.plane.table.names("guard/#") == []
    assert [item["p"] for item in await rig.sent()] == ["guard/a"]


async def test_a_reload_keeps_the_latest_values_of_points_that_stay() -> None:
    rig = Rig().configure()
    rig.feed("boiler/temp", 21.5)
    changed = PointConfig("boiler/temp", device="boiler", unit="K")
    rig.configure(devices=[DeviceConfig("boiler", "modbus-1", points=(changed,))])
    latest = rig.plane.table.latest("boiler/temp")
    assert latest is not None
    assert latest.value == 21.5
    assert rig.plane.table.names() == ["boiler/temp"]


@pytest.mark.parametrize(("off_s", "floor"), [(3600.0, False), (-1e9, True)])
async def test_times_from_the_future_or_before_the_floor_are_marked_and_repaired_not_dropped(
    off_s: float, floor: bool
) -> None:
    rig = Rig().configure()
    t_ms = 5 if floor else int(rig.clock.now_ms() + off_s * 1000)
    rig.plane.ingest.accept("modbus-1", [Sample("boiler/temp", 20.0, t_ms)])
    latest = rig.plane.table.latest("boiler/temp")
    assert latest is not None
    assert (latest.t_ms, latest.unsynced, latest.received_ms) == (t_ms, True, rig.clock.now_ms())
    rig.plane.reduction.close()
    (item,) = await rig.sent()
    assert item["u"] is True
    assert item["t0"] <= rig.clock.now_ms() < item["t1"]
    rig.feed("boiler/temp", 30.0)
    after = rig.plane.table.latest("boiler/temp")
    assert after is not None
    assert (after.value, after.unsynced) == (30.0, False)


async def test_while_the_gateways_clock_is_not_sane_everything_is_marked() -> None:
    rig = Rig().configure()
    rig.clock.right = False
    rig.plane.ingest.accept("modbus-1", [Sample("boiler/temp", 20.0), Sample("boiler/valve", 1, 1000)])
    assert all((latest := rig.plane.table.latest(n)) and latest.unsynced for n in ("boiler/temp", "boiler/valve"))
    assert rig.plane.ingest.status()["modbus-1"]["marked"] == 2


async def test_a_late_sample_is_counted_but_is_not_the_latest() -> None:
    rig = Rig().configure()
    rig.plane.ingest.accept("modbus-1", [rig.sample("boiler/temp", 20.0)])
    rig.plane.ingest.accept("modbus-1", [rig.sample("boiler/temp", 99.0, ago_s=30)])
    latest = rig.plane.table.latest("boiler/temp")
    assert latest is not None
    assert latest.value == 20.0
    rig.plane.reduction.close()
    assert sum(item["n"] for item in await rig.sent()) == 2


async def test_a_value_outside_its_range_is_uncertain() -> None:
    rig = Rig().configure()
    rig.feed("boiler/temp", 151.0)
    latest = rig.plane.table.latest("boiler/temp")
    assert latest is not None
    assert latest.q is Quality.UNCERTAIN


async def test_windows_close_by_themselves_when_the_source_falls_silent() -> None:
    rig = Rig().configure()
    rig.feed("boiler/temp", *[float(n) for n in range(25)])
    rig.timers.advance(30)
    windows = [item for item in await rig.sent() if "n" in item]
    assert sum(item["n"] for item in windows) == 25
    assert all(item["t1"] - item["t0"] == 10_000 for item in windows)


@pytest.mark.parametrize(
    ("config", "values", "items"),
    [
        (PointConfig("d/p", deadband=1.0), [1.0, 1.5, 3.0, 3.1], [("v", 1.0), ("v", 3.0)]),
        (PointConfig("d/p", deadband=1.0, window_s=100.0), [1.0, 1.5, 3.0], [("v", 1.0), ("v", 3.0), ("n", 3)]),
        (PointConfig("d/p", window_s=100.0), [1.0, 1.0], [("n", 2)]),
        (PointConfig("d/p"), [1.0, 1.0], [("n", 2)]),
        (PointConfig("d/p", type="bool"), [True, True, False], [("v", True), ("v", False)]),
        (PointConfig("d/p", type="string", window_s=5.0), ["a", "a", "b"], [("v", "a"), ("v", "b")]),
        (PointConfig("d/p", max_interval_s=2.5), [1.0, 1.0, 1.0, 1.0], [("v", 1.0), ("v", 1.0)]),
    ],
)
async def test_what_a_point_declares_decides_what_it_sends(
    config: PointConfig, values: list[Scalar], items: list[tuple[str, Scalar]]
) -> None:
    rig = Rig(floor_ms=0)
    rig.clock.wall_ms = 1_795_000_000_000.0
    rig.configure(devices=[DeviceConfig("d", "drv", points=(config,))])
    rig.feed("d/p", *values, instance="drv")
    rig.plane.reduction.close()
    assert [("n", item["n"]) if "n" in item else ("v", item["v"]) for item in await rig.sent()] == items


async def test_a_change_of_quality_is_sent_even_by_a_point_with_windows_only() -> None:
    rig = Rig().configure()
    for q in (Quality.GOOD, Quality.BAD, Quality.BAD, Quality.GOOD):
        rig.timers.advance(0.1)
        rig.plane.ingest.accept("modbus-1", [rig.sample("boiler/temp", 20.0, q=q)])
    rig.plane.reduction.close()
    items = await rig.sent()
    assert [item["q"] for item in items if "q" in item] == ["bad", "good"]
    assert [(item["n"], item["bad"]) for item in items if "n" in item] == [(2, 2)]


async def test_a_critical_point_does_not_wait_for_a_batch() -> None:
    rig = Rig()
    trip = PointConfig("d/trip", type="bool", priority=Priority.CRITICAL)
    rig.configure(devices=[DeviceConfig("d", "drv", points=(trip,))])
    rig.feed("d/trip", True, instance="drv")
    await rig.plane.outbox.flushed()
    assert [stored.priority for stored in rig.store.rows.values()] == [Priority.CRITICAL]


async def test_batches_go_when_they_are_old_enough_or_full() -> None:
    rig = Rig()
    points = tuple(PointConfig(f"d/p{n}", deadband=0.5) for n in range(150))
    rig.configure(devices=[DeviceConfig("d", "drv", points=points)])
    rig.plane.ingest.accept("drv", [Sample(p.name, 1.0) for p in points])
    await rig.plane.outbox.flushed()
    assert [stored.count for stored in rig.store.rows.values()] == [100]
    rig.timers.advance(1.5)
    await rig.plane.outbox.flushed()
    assert [stored.count for stored in rig.store.rows.values()] == [100, 50]


async def test_durable_waits_for_the_commit() -> None:
    rig = Rig()
    rig.configure(devices=[DeviceConfig("d", "drv", points=(PointConfig("d/p", deadband=0.5),))])
    rig.feed("d/p", 1.0, instance="drv")
    assert rig.store.rows == {}
    await rig.plane.ingest.flushed()
    assert len(rig.store.rows) == 1


async def test_closing_sends_open_windows_as_they_are() -> None:
    rig = Rig().configure()
    rig.feed("boiler/temp", 1.0, 2.0)
    await rig.plane.close()
    assert [item["n"] for item in await rig.sent()] == [2]


async def test_the_owner_of_a_devices_points_is_its_driver() -> None:
    rig = Rig().configure()
    assert BOILER.driver == rig.plane.table.owner("boiler/temp") == "modbus-1"
    assert rig.plane.table.may_publish("modbus-1", "boiler/temp")
    assert not rig.plane.table.may_publish("guard", "boiler/temp")
