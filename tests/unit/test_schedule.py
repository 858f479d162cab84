"""Update windows: open by the clock of the place, over midnight and over the nights when that clock is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.schedule import DAYS, UpdateTimes, Wait, Window, opening, parse_window, wait_for

BERLIN = ZoneInfo("Europe/Berlin")
SHANGHAI = ZoneInfo("Asia/Shanghai")
ZONES = (UTC, BERLIN, SHANGHAI, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/St_Johns"), ZoneInfo("Pacific/Apia"))
DAY_MS = 86_400_000

windows = st.builds(
    Window,
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sets(st.integers(0, 6), min_size=1).map(frozenset),
).filter(lambda w: w.start != w.end)
moments_ms = st.integers(1_577_836_800_000, 2_208_988_800_000)
"""2020 to 2040."""
zones = st.sampled_from(ZONES)


def at(text: str, zone: tzinfo = BERLIN, fold: int = 0) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()) * 1000


def reads_inside(window: Window, now_ms: int, zone: tzinfo) -> bool:
    """Written another way than the room's: what the clock on the wall and its calendar say."""
    local = datetime.fromtimestamp(now_ms // 1000, zone)
    minute, today = local.hour * 60 + local.minute, local.weekday()
    if window.end > window.start:
        return window.start <= minute < window.end and today in window.days
    late = minute >= window.start and today in window.days
    return late or (minute < window.end and (today - 1) % 7 in window.days)


def clock_is_set_near(now_ms: int, zone: tzinfo) -> bool:
    offsets = {datetime.fromtimestamp((now_ms + days * DAY_MS) // 1000, zone).utcoffset() for days in (-2, -1, 0, 1, 2)}
    return len(offsets) > 1


@given(windows, moments_ms, zones)
def test_on_ordinary_days_a_window_is_open_exactly_while_the_wall_clock_reads_so(
    window: Window, now_ms: int, zone: tzinfo
) -> None:
    opens_ms, _ = opening([window], now_ms, zone)
    if not clock_is_set_near(now_ms, zone):
        assert (opens_ms <= now_ms) == reads_inside(window, now_ms, zone)


@given(st.lists(windows, min_size=1, max_size=4), moments_ms, zones)
def test_an_opening_is_now_or_ahead_closes_later_and_holds_from_its_first_to_its_last_moment(
    some: list[Window], now_ms: int, zone: tzinfo
) -> None:
    opens_ms, closes_ms = opening(some, now_ms, zone)
    assert now_ms < closes_ms
    assert opens_ms < closes_ms
    assert closes_ms - opens_ms <= DAY_MS + 3_600_000
    for inside_ms in (opens_ms, closes_ms - 1):
        found = opening(some, inside_ms, zone)
        assert found[0] <= inside_ms < found[1]
    assert opens_ms - now_ms <= 9 * DAY_MS


@given(windows, moments_ms, zones)
def test_nobody_is_sent_to_a_later_opening_while_an_earlier_one_lies_between(
    window: Window, now_ms: int, zone: tzinfo
) -> None:
    opens_ms, closes_ms = opening([window], now_ms, zone)
    for between_ms in (now_ms, (now_ms + opens_ms) // 2, opens_ms - 1):
        if now_ms <= between_ms < opens_ms:
            assert opening([window], between_ms, zone) == (opens_ms, closes_ms)


@pytest.mark.parametrize(
    ("window", "now", "opens", "closes"),
    [
        # Clocks are set forward from 02:00 to 03:00 on 29 March 2026, and back from 03:00 to 02:00 on 25 October.
        ("01:00-04:00", "2026-03-29 00:30", "2026-03-29 00:00Z", "2026-03-29 02:00Z"),
        ("02:30-04:00", "2026-03-29 00:30", "2026-03-29 01:00Z", "2026-03-29 02:00Z"),
        ("02:00-03:00", "2026-03-29 00:30", "2026-03-30 00:00Z", "2026-03-30 01:00Z"),
        ("01:00-02:30", "2026-03-29 00:30", "2026-03-29 00:00Z", "2026-03-29 01:00Z"),
        ("02:00-04:00", "2026-10-25 01:00", "2026-10-25 00:00Z", "2026-10-25 03:00Z"),
        ("02:30-02:45", "2026-10-25 01:00", "2026-10-25 00:30Z", "2026-10-25 00:45Z"),
        ("23:00-02:30", "2026-10-24 23:30", "2026-10-24 21:00Z", "2026-10-25 00:30Z"),
        ("sat 22:00-06:00", "2026-11-22 05:59", "2026-11-21 21:00Z", "2026-11-22 05:00Z"),
        ("sat 22:00-06:00", "2026-11-22 06:00", "2026-11-28 21:00Z", "2026-11-29 05:00Z"),
        ("00:00-24:00", "2026-11-22 06:00", "2026-11-21 23:00Z", "2026-11-22 23:00Z"),
    ],
)
def test_windows_over_midnight_and_over_clock_changes(window: str, now: str, opens: str, closes: str) -> None:
    def instant(text: str) -> int:
        return round(datetime.fromisoformat(text).timestamp()) * 1000

    assert opening([parse_window(window)], at(now), BERLIN) == (instant(opens), instant(closes))


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("02:00-04:00", Window(120, 240)),
        ("Sat 10:00-12:00", Window(600, 720, frozenset({5}))),
        ("mon-fri 22:00-05:30", Window(1320, 330, frozenset(range(5)))),
        ("sat,sun 00:00-24:00", Window(0, 1440, frozenset({5, 6}))),
        ("fri-mon 08:00-09:00", Window(480, 540, frozenset({4, 5, 6, 0}))),
    ],
)
def test_windows_read_as_people_write_them(text: str, window: Window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2-4",
        "02:00",
        "02:00-04:60",
        "25:00-26:00",
        "24:00-02:00",
        "02:00-02:00",
        "so 10:00-12:00",
        "mon- 1:00-2:00",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a|not days|without length"):
        parse_window(text)


@given(st.text(max_size=24))
def test_any_text_is_a_window_or_a_value_error(text: str) -> None:
    try:
        window = parse_window(text)
    except ValueError:
        return
    assert window.days <= set(range(len(DAYS)))
    assert window.start != window.end


NIGHT = UpdateTimes((parse_window("02:00-04:00"),), SHANGHAI)
NOON_MS = at("2026-11-24 12:00", SHANGHAI)


def test_what_the_cloud_asks_for_waits_for_the_window_and_says_until_when_and_why() -> None:
    found = wait_for(NIGHT, NOON_MS, sane=True, at_ms=0, bound=True)
    night_ms = at("2026-11-25 02:00", SHANGHAI)
    assert found == Wait(night_ms, "until Wed 2026-11-25 02:00+08:00: outside of the update windows")
    assert wait_for(NIGHT, night_ms, sane=True, at_ms=0, bound=True) is None


def test_a_time_of_its_own_is_waited_for_by_anybody_and_the_window_after_it() -> None:
    later_ms = NOON_MS + 1000
    for bound in (True, False):
        found = wait_for(NIGHT, NOON_MS, sane=True, at_ms=later_ms, bound=bound)
        assert found == Wait(later_ms, "until Tue 2026-11-24 12:00:01+08:00, as ordered")
    assert wait_for(NIGHT, later_ms, sane=True, at_ms=later_ms, bound=False) is None
    assert wait_for(NIGHT, later_ms, sane=True, at_ms=later_ms, bound=True) is not None


def test_with_a_wrong_clock_everything_that_depends_on_it_waits_and_nothing_else() -> None:
    for at_ms, bound in ((0, True), (1, False), (NOON_MS, True)):
        found = wait_for(NIGHT, 0, sane=False, at_ms=at_ms, bound=bound)
        assert found == Wait(0, "until the gateway's clock is right")
    assert wait_for(NIGHT, 0, sane=False, at_ms=0, bound=False) is None
    assert wait_for(UpdateTimes(), 0, sane=False, at_ms=0, bound=True) is None


@given(moments_ms, st.integers(-14, 14), windows)
def test_waiting_until_the_time_named_is_enough(now_ms: int, hours: int, window: Window) -> None:
    times = UpdateTimes((window,), timezone(timedelta(hours=hours)))
    found = wait_for(times, now_ms, sane=True, at_ms=0, bound=True)
    if found is not None:
        assert wait_for(times, found.until_ms, sane=True, at_ms=0, bound=True) is None
