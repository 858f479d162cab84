"""What instances use is looked at cheaply, shown, and acted on: lines raise alarms, a full disk stops its APP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control.room import Care
from agent.control.watch.metering import Pace
from agent.control.watch.usealarms import Lines, UseAlarms
from agent.control.watch.usewatch import UseWatch
from agent.data.plane import make_plane
from agent.domain.app import Trial
from agent.domain.command import JobState
from agent.domain.container import ContainerState, RunState
from agent.domain.journal import Change
from agent.domain.space import Disk
from agent.domain.usage import DiskUse, Folder, Rates, Usage
from agent.host.clock import SystemClock
from tests.control.alarmwatch import AlarmWatch
from tests.control.rig import CARE, FAST, Rig, manifest, running
from tests.fakes.meter import IDLE, MIB
from tests.fakes.outbox import FakeAlarmStore, FakeOutboxStore

DISK = "app:pump/disk_limit"
UNCOUNTED = "app:pump/disk_uncounted"
MEMORY = "app:pump/main/memory_high"
THROTTLED = "app:pump/main/throttled"
VOLUME = 'volumes: ["data:/data"]'
LIMITED = manifest(extra=VOLUME).replace("x-ec:\n", "x-ec:\n  disk: 200M\n", 1) + "volumes: {data: {}}\n"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=LIMITED))
        yield rig


@pytest.fixture
async def watch() -> AsyncIterator[AlarmWatch]:
    plane = make_plane(FakeOutboxStore(), FakeAlarmStore(), SystemClock(0))
    watched = AlarmWatch()
    watched.follow(plane.alarms)
    yield watched
    await plane.close()


def fill(rig: Rig, mib: int, *, complete: bool = True) -> None:
    """Its volume now takes so much; not `complete`: at least."""
    (volume,) = rig.engine.find("pump", "main")[0].places.volumes
    rig.meter.folders[volume] = Folder(mib * MIB, complete)


async def counted(rig: Rig) -> None:
    """Wait until its disk was counted anew."""
    before = len(rig.meter.measured)
    await rig.until(lambda: len(rig.meter.measured) > before + 3, "two counts of its disk")


async def test_use_is_shown_by_service_and_instance(rig: Rig) -> None:
    rig.meter.usage["main"] = replace(IDLE, cpu_ns=5_000_000_000, rx_bytes=10, tx_bytes=20)
    fill(rig, 12)
    await counted(rig)
    await rig.until(lambda: rig.room.views.detail("pump")["use"].get("disk", {}).get("total_bytes") == 12 * MIB, "it")
    await rig.until(lambda: rig.room.views.detail("pump")["use"]["services"]["main"]["cpu_s"] == 5.0, "its counters")
    use = rig.room.views.detail("pump")["use"]
    assert use["services"]["main"]["net_tx_bytes"] == 20
    assert use["disk"]["limit_bytes"] == 200 * MIB
    assert use["disk"]["volume_bytes"] == 12 * MIB


async def test_past_its_disk_limit_it_is_stopped_held_and_told(rig: Rig) -> None:
    fill(rig, 312)
    await rig.until(lambda: not rig.serving(), "its stop")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold")
    assert rig.room.views.summary("pump")["message"] == "disk: 312 MiB of 200 MiB"
    assert "312 MiB of 200 MiB" in rig.alarms.standing[DISK].message


async def test_an_upgrade_that_fills_its_disk_on_trial_goes_back_to_the_old_version_with_its_data(rig: Rig) -> None:
    fill(rig, 20)
    (volume,) = rig.meter.folders
    ledger = rig.room.ledger

    def data_are_back(change: Change) -> None:
        if any(d.trial is Trial.PROVEN and not d.restore for d in change.desired):
            rig.meter.folders[volume] = Folder(20 * MIB, True)

    new = manifest("2", extra=VOLUME, health="within: 20s, stable_for: 15s").replace("x-ec:\n", "x-ec:\n  disk: 200M\n")
    new = new.replace("    health:", "    rollback: {volumes: [data]}\n    health:") + "volumes: {data: {}}\n"
    reply = await rig.send("app.upgrade", instance="pump", manifest=new)
    await rig.until(lambda: ledger.jobs[reply.job].state is JobState.VERIFYING, "the trial")
    ledger.listen(data_are_back)
    rig.meter.folders[volume] = Folder(312 * MIB, True)
    job = await rig.ended(reply.job)
    assert (job.state, job.message) == (JobState.ROLLED_BACK, "past its limit: disk: 312 MiB of 200 MiB")
    await rig.until(lambda: rig.alarms.standing == {}, "the alarms' end")
    assert rig.serving() == ["pump:1"]
    assert rig.room.views.summary("pump")["phase"] == "running"
    assert all(not stored.failed for stored in ledger.releases.values())


async def test_after_cleaning_up_a_start_by_hand_works_and_ends_the_alarm(rig: Rig) -> None:
    fill(rig, 312)
    await rig.until(lambda: not rig.serving(), "its stop")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold")
    fill(rig, 20)
    await rig.job(await rig.send("app.start", instance="pump"))
    await rig.until(lambda: rig.alarms.standing == {}, "the alarms' end")
    assert rig.serving() == ["pump:1"]


async def test_a_start_without_cleaning_up_is_stopped_again(rig: Rig) -> None:
    fill(rig, 312)
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold")
    starts = len([op for op, _ in rig.engine.log if op == "start"])
    await rig.send("app.start", instance="pump")
    await rig.until(lambda: len([op for op, _ in rig.engine.log if op == "start"]) > starts, "its start")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold again")
    await rig.until(lambda: not rig.serving(), "its stop")
    assert rig.alarms.raised.count(DISK) == 1


async def test_a_hold_for_disk_stays_when_the_agent_restarts(rig: Rig) -> None:
    fill(rig, 312)
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold")
    await rig.restart()
    await counted(rig)
    assert rig.room.views.summary("pump")["message"] == "disk: 312 MiB of 200 MiB"
    assert not rig.serving()
    assert rig.alarms.raised.count(DISK) == 1


async def test_near_its_limit_there_is_an_alarm_and_it_runs_on(rig: Rig) -> None:
    fill(rig, 185)
    await rig.until(lambda: "app:pump/disk_high" in rig.alarms.standing, "the alarm")
    assert rig.serving() == ["pump:1"]
    fill(rig, 150)
    await rig.until(lambda: rig.alarms.standing == {}, "its end")


async def test_a_disk_that_cannot_be_counted_to_its_end_is_an_alarm_until_it_can(rig: Rig) -> None:
    fill(rig, 20, complete=False)
    await rig.until(lambda: UNCOUNTED in rig.alarms.standing, "the alarm")
    said = rig.alarms.standing[UNCOUNTED].message
    assert "pump: disk: at least 20 MiB of 200 MiB" in said
    assert "a folder of more than 200,000 entries" in said
    assert rig.serving() == ["pump:1"]
    fill(rig, 20)
    await rig.until(lambda: rig.alarms.standing == {}, "its end")


async def test_what_was_counted_of_it_is_enough_to_stop_it(rig: Rig) -> None:
    fill(rig, 312, complete=False)
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold")
    assert rig.room.views.summary("pump")["message"] == "disk: at least 312 MiB of 200 MiB"
    assert not rig.serving()
    assert set(rig.alarms.standing) == {DISK, UNCOUNTED, "app:pump/disk_high"}


async def test_a_count_that_did_not_come_to_its_end_ends_no_alarm(watch: AlarmWatch) -> None:
    alarms = UseAlarms(watch.book, Lines())
    full = {DISK, "app:pump/disk_high"}
    assert alarms.see_disk("pump", DiskUse(volume_bytes=312), 200, 0.0)
    assert set(watch.standing) == full
    assert not alarms.see_disk("pump", DiskUse(volume_bytes=20, complete=False), 200, 60.0)
    assert set(watch.standing) == full | {UNCOUNTED}
    assert not alarms.see_disk("pump", DiskUse(volume_bytes=20), 200, 120.0)
    assert watch.standing == {}


async def test_a_disk_that_loses_room_quickly_is_looked_into_at_once_and_told_no_more_often(tmp_path: Path) -> None:
    async with running(tmp_path, Care(FAST, pace=Pace(tick_s=0.05, measure_s=3600.0))) as rig:
        told: list[Disk] = []
        rig.room.metering.on_disk.append(told.append)
        await rig.job(await rig.send("app.install", instance="pump", manifest=LIMITED))
        await counted_once(rig)
        fill(rig, 312)
        assert rig.meter.free is not None
        rig.meter.free -= 100 * MIB
        await rig.until(lambda: not rig.serving(), "its stop")
        assert len(told) <= 1, "once a measurement, however often it is looked at"


async def counted_once(rig: Rig) -> None:
    await rig.until(lambda: "disk" in rig.room.metering.use("pump"), "the metering")


async def test_processes_near_their_limit_are_an_alarm_until_they_are_not(rig: Rig) -> None:
    rig.meter.usage["main"] = replace(IDLE, pids=60)
    await rig.until(lambda: "app:pump/main/pids_high" in rig.alarms.standing, "the alarm")
    rig.meter.usage["main"] = replace(IDLE, pids=55)
    await rig.until(lambda: rig.room.views.detail("pump")["use"]["services"]["main"]["pids"] == 55, "another look")
    assert "app:pump/main/pids_high" in rig.alarms.standing, "within the band"
    rig.meter.usage["main"] = IDLE
    await rig.until(lambda: rig.alarms.standing == {}, "its end")


def seen(alarms: UseAlarms, usage: Usage, rates: Rates, now: float) -> None:
    """One look at pump's service `main`."""
    main = ContainerState("1", "c", "pump", "main", "r", "s", "i", RunState.RUNNING, pid=7)
    alarms.see_service(main, usage, rates, now)


async def test_memory_near_its_limit_for_half_a_minute_is_an_alarm_until_it_is_not(watch: AlarmWatch) -> None:
    alarms = UseAlarms(watch.book, Lines(mem_percent=90.0))
    high, within, low = (replace(IDLE, mem_bytes=part * MIB, mem_limit_bytes=100 * MIB) for part in (91, 85, 79))
    seen(alarms, high, Rates(), 0.0)
    seen(alarms, high, Rates(), 29.0)
    assert watch.standing == {}, "a peak is no alarm"
    seen(alarms, within, Rates(), 29.5)
    seen(alarms, high, Rates(), 30.0)
    seen(alarms, high, Rates(), 59.0)
    assert watch.standing == {}, "the time begins anew"
    seen(alarms, high, Rates(), 60.0)
    assert set(watch.standing) == {MEMORY}
    assert watch.standing[MEMORY].message == "pump: service main uses 91 MiB of 100 MiB memory"
    seen(alarms, within, Rates(), 200.0)
    seen(alarms, low, Rates(), 300.0)
    seen(alarms, low, Rates(), 329.0)
    assert set(watch.standing) == {MEMORY}, "within the band, and a dip, end nothing"
    seen(alarms, low, Rates(), 330.0)
    assert watch.standing == {}
    assert watch.raised == [MEMORY]


async def test_a_service_without_a_memory_limit_is_never_near_it(watch: AlarmWatch) -> None:
    alarms = UseAlarms(watch.book, Lines(mem_percent=90.0))
    for at in (0.0, 60.0, 120.0):
        seen(alarms, replace(IDLE, mem_bytes=10**12, mem_limit_bytes=0), Rates(), at)
    assert watch.standing == {}


async def test_a_service_held_back_for_a_minute_is_an_alarm_until_it_is_let_go(watch: AlarmWatch) -> None:
    alarms = UseAlarms(watch.book, Lines(throttled_percent=50.0))
    seen(alarms, IDLE, Rates(100.0, 51.0), 0.0)
    seen(alarms, IDLE, Rates(100.0, 51.0), 59.0)
    assert watch.standing == {}, "a busy moment is no alarm"
    seen(alarms, IDLE, Rates(100.0, 51.0), 60.0)
    assert set(watch.standing) == {THROTTLED}
    assert watch.standing[THROTTLED].message == "pump: service main wants more processor than its limit lets it have"
    seen(alarms, IDLE, Rates(100.0, 26.0), 120.0)
    seen(alarms, IDLE, Rates(), 180.0)
    seen(alarms, IDLE, Rates(100.0, 24.0), 240.0)
    seen(alarms, IDLE, Rates(100.0, 24.0), 299.0)
    assert set(watch.standing) == {THROTTLED}, "within the band, not known, and a pause, end nothing"
    seen(alarms, IDLE, Rates(100.0, 24.0), 300.0)
    assert watch.standing == {}
    assert watch.raised == [THROTTLED]


async def test_the_machines_memory_raises_after_half_a_minute_and_clears_so(watch: AlarmWatch) -> None:
    alarms = UseAlarms(watch.book, Lines({"mem_used_percent": 90.0}))
    for at, used, standing in (
        (0.0, 91, set()),
        (29.0, 91, set()),
        (30.0, 91, {"gateway/memory"}),
        (60.0, 86, {"gateway/memory"}),
        (90.0, 84, {"gateway/memory"}),
        (119.0, 84, {"gateway/memory"}),
        (120.0, 84, set()),
    ):
        alarms.see_machine({"mem_used_bytes": used, "mem_bytes": 100}, at)
        assert set(watch.standing) == standing, at
    assert watch.raised == ["gateway/memory"]


async def test_what_a_stopped_service_used_is_no_alarm_any_more(rig: Rig) -> None:
    rig.meter.usage["main"] = replace(IDLE, pids=60)
    await rig.until(lambda: "app:pump/main/pids_high" in rig.alarms.standing, "the alarm")
    await rig.job(await rig.send("app.stop", instance="pump"))
    await rig.until(lambda: rig.alarms.standing == {}, "its end")
    assert rig.alarms.raised == ["app:pump/main/pids_high"]


async def test_a_kill_for_memory_that_no_event_told_is_found_by_the_counter(rig: Rig) -> None:
    await rig.until(lambda: "main" in rig.room.metering.use("pump").get("services", {}), "the first look")
    rig.meter.usage["main"] = replace(IDLE, oom_kills=1)
    await rig.until(lambda: bool(rig.alarms.standing), "the alarm")
    assert set(rig.alarms.standing) == {"app:pump/main/killed_for_memory"}


async def test_kills_from_before_the_agent_came_are_not_news(rig: Rig) -> None:
    await rig.kill()
    rig.meter.usage["main"] = replace(IDLE, oom_kills=3)
    await rig.start()
    await rig.until(lambda: "main" in rig.room.metering.use("pump").get("services", {}), "the first look")
    assert rig.alarms.raised == []


async def test_the_machines_own_lines_raise_and_clear(watch: AlarmWatch) -> None:
    alarms = UseAlarms(watch.book, Lines({"disk_free_percent": 10.0, "temperature_c": 85.0, "cpu_percent": 95.0}))
    full = {"disk_free_bytes": 9, "disk_bytes": 100, "temperature_c": 90.0, "cpu_percent": 100.0}
    alarms.see_machine(full, 0.0)
    assert set(watch.standing) == {"gateway/disk", "gateway/temperature"}, "a busy moment is no alarm"
    alarms.see_machine(full | {"disk_free_bytes": 14, "temperature_c": None}, 60.0)
    assert set(watch.standing) == {"gateway/disk", "gateway/temperature", "gateway/cpu"}
    alarms.see_machine({"disk_free_bytes": 16, "disk_bytes": 100, "temperature_c": 70.0, "cpu_percent": 90.0}, 61.0)
    assert set(watch.standing) == {"gateway/cpu"}
    alarms.see_machine({"cpu_percent": 10.0}, 62.0)
    alarms.see_machine({"cpu_percent": 10.0}, 122.0)
    assert watch.standing == {}


@pytest.mark.parametrize("apart", [False, True])
async def test_a_disk_of_the_engines_own_has_an_alarm_of_its_own(tmp_path: Path, apart: bool) -> None:
    lines = Lines({"disk_free_percent": 10.0})
    async with running(tmp_path, replace(CARE, lines=lines)) as rig:
        rig.meter.device = 2 if apart else 1
        looks: list[float] = []
        rig.room.metering.on_disk.append(lambda disk: looks.append(disk.used_percent))
        for free_mib, told in ((1_900, apart), (2_900, apart), (3_100, False)):
            rig.meter.free = free_mib * MIB
            looks.clear()
            await rig.until(lambda: len(looks) > 3, "looks at the disk")
            assert set(rig.alarms.standing) == ({"gateway/engine_disk"} if told else set())


async def test_what_an_earlier_agent_raised_stands_until_it_is_over(watch: AlarmWatch) -> None:
    UseAlarms(watch.book, Lines({"disk_free_percent": 10.0})).see_machine(
        {"disk_free_bytes": 9, "disk_bytes": 100}, 0.0
    )
    after = UseAlarms(watch.book, Lines({"disk_free_percent": 10.0}))
    after.see_machine({"disk_free_bytes": 12, "disk_bytes": 100}, 0.0)
    assert watch.raised == ["gateway/disk"]
    after.see_machine({"disk_free_bytes": 20, "disk_bytes": 100}, 1.0)
    assert watch.standing == {}


async def test_an_instance_that_is_gone_is_forgotten(rig: Rig) -> None:
    await counted(rig)
    await rig.job(await rig.send("app.remove", instance="pump"))
    await rig.until(lambda: rig.room.metering.use("pump") == {}, "its end")
    assert rig.alarms.standing == {}


async def test_where_the_file_system_can_it_holds_the_volumes_itself(rig: Rig) -> None:
    rig.meter.hard = True
    await rig.restart()
    await rig.until(lambda: rig.room.metering.use("pump").get("disk", {}).get("hard") is True, "the hard limit")
    (volume,) = rig.engine.find("pump", "main")[0].places.volumes
    assert rig.meter.capped == {"pump": ((volume,), 200 * MIB)}


async def test_a_disk_that_stays_full_after_going_back_stops_the_old_version_and_no_release_is_blamed(rig: Rig) -> None:
    slow = (
        LIMITED.replace("stable_for: 0s", "stable_for: 30s").replace("within: 3s", "within: 60s").replace(':1"', ':2"')
    )
    reply = await rig.send("app.upgrade", instance="pump", manifest=slow.replace("pump:1", "pump:2"))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the trial")
    fill(rig, 312)
    job = await rig.job(reply)
    assert (job.state, job.message) == ("rolled_back", "past its limit: disk: 312 MiB of 200 MiB")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "its stop")
    assert rig.room.views.summary("pump")["version"] == "1"
    assert all(not stored.failed for stored in rig.room.ledger.releases.values())


async def test_what_was_past_its_limit_before_its_upgrade_stays_on_the_new_version_and_is_held(rig: Rig) -> None:
    fill(rig, 312)
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold")
    mends = LIMITED.replace(':1"', ':2"').replace("pump:1", "pump:2").replace('version: "1"', 'version: "2"')
    assert (await rig.job(await rig.send("app.upgrade", instance="pump", manifest=mends))).state is JobState.DONE
    starts = [op for op, _ in rig.engine.log].count("start")
    await rig.send("app.start", instance="pump")
    await rig.until(lambda: [op for op, _ in rig.engine.log].count("start") > starts, "its start")
    await rig.until(lambda: rig.room.views.summary("pump")["phase"] == "held", "the hold again")
    assert rig.room.views.summary("pump")["version"] == "2"
    fill(rig, 20)
    await rig.job(await rig.send("app.start", instance="pump"))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the version that mends it")


async def test_a_count_that_a_decision_has_overtaken_stops_nothing_and_is_no_alarm(rig: Rig) -> None:
    room = rig.room
    alarms = UseAlarms(rig.plane.alarms, Lines())
    watch = UseWatch(room.ledger, room.catalog, room.reconciler, room.supervisor, alarms, (rig.host, rig.doors))
    counted_before = replace(room.ledger.get("pump"), restore="a copy")
    full = DiskUse(volume_bytes=312 * MIB)
    assert await watch.see_disk("pump", full, counted_before, 0.0), "it is counted again soon"
    assert DISK not in rig.alarms.raised
    assert room.ledger.get("pump").hold == ""


async def test_what_is_reported_is_renewed_only_when_it_says_something_new(rig: Rig) -> None:
    rig.meter.usage["main"] = replace(IDLE, cpu_ns=1)
    await rig.until(lambda: "main" in rig.room.views.report("pump")["use"].get("services", {}), "the first report")
    news: list[str] = []
    rig.room.metering.on_news.append(news.append)
    rig.meter.usage["main"] = replace(IDLE, cpu_ns=2_000_000, rx_bytes=None)
    await rig.until(lambda: rig.room.metering.use("pump")["services"]["main"]["cpu_s"] == 0.002, "a later look")
    assert rig.room.views.report("pump")["use"]["services"]["main"]["cpu_s"] == 0.0
    assert news == []
