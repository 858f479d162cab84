"""When work may run: at a time, or in windows by the clock of the place. Arithmetic on given times, nothing else.

Instants are epoch ms; a zone is any `tzinfo`. A window opens when the local clock first reads its start on a day, and
closes when it first reads its end after that: on the night when the clock is set forward, what the clock skips is left
out; when it is set back, the hour that comes twice opens and closes windows only once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(7))
LAST_MINUTE = 24 * 60
HINT = 'write "02:00-04:00", "sat 10:00-12:00" or "mon-fri 22:00-05:30"'
_WINDOW = re.compile(r"(?:(?P<days>[a-z,-]+) +)?(?P<start>\d{2}:\d{2})-(?P<end>\d{2}:\d{2})")
_LOOK_AHEAD_DAYS = 16
"""Two weeks: a weekly window that the clock skips once opens the week after."""


@dataclass(frozen=True, slots=True)
class Window:
    """`start` and `end` are minutes of the local day, `days` those it begins on (0: Monday).

    An end at or before the start is on the day after.
    """

    start: int
    end: int
    days: frozenset[int] = EVERY_DAY


@dataclass(frozen=True, slots=True)
class UpdateTimes:
    """When deployments that the cloud asks for may run here. No window: always."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo = field(default=UTC)


@dataclass(frozen=True, slots=True)
class Wait:
    """Work that may not run yet. `until_ms` is 0 where nobody can tell."""

    until_ms: int
    why: str


def parse_window(text: str) -> Window:
    """``sat 10:00-12:00`` as a window. Raises ValueError in words that follow 'is'."""
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"'{text}', not a window")
    start, end = _minute(match["start"]), _minute(match["end"])
    if start in (LAST_MINUTE, end):
        raise ValueError(f"'{text}', a window without length (a whole day is 00:00-24:00)")
    return Window(start, end, _days(match["days"]) if match["days"] else EVERY_DAY)


def opening(windows: Sequence[Window], now_ms: int, zone: tzinfo) -> tuple[int, int]:
    """(opens, closes) in epoch ms of the window that is open now, else of the next one; the longest of those open.

    Raises ValueError where no window ever opens.
    """
    today = _local(now_ms, zone).date()
    coming = [
        span
        for offset in range(-2, _LOOK_AHEAD_DAYS)
        for window in windows
        if (day := today + timedelta(days=offset)).weekday() in window.days
        and (span := _span(window, day, zone))[0] < span[1]
        and span[1] > now_ms
    ]
    if not coming:
        raise ValueError("no window opens")
    open_now = [span for span in coming if span[0] <= now_ms]
    return max(open_now, key=lambda span: span[1]) if open_now else min(coming)


def wait_for(times: UpdateTimes, now_ms: int, *, sane: bool, at_ms: int, bound: bool) -> Wait | None:
    """Why work may not run now, or None when it may.

    `at_ms` is its own time (0: any); `bound`: it must keep to the windows. What depends on the clock waits while that is
    wrong.
    """
    windows = times.windows if bound else ()
    if not sane and (at_ms or windows):
        return Wait(0, "until the gateway's clock is right")
    if at_ms > now_ms:
        return Wait(at_ms, f"until {show_time(at_ms, times.zone)}, as ordered")
    if windows:
        opens_ms, _ = opening(windows, now_ms, times.zone)
        if opens_ms > now_ms:
            return Wait(opens_ms, f"until {show_time(opens_ms, times.zone)}: outside of the update windows")
    return None


def show_time(at_ms: int, zone: tzinfo) -> str:
    """An instant for people: ``Wed 2026-11-25 02:00+08:00``."""
    local = _local(at_ms, zone)
    return f"{DAYS[local.weekday()].title()} {local.isoformat(' ', 'seconds' if local.second else 'minutes')}"


def _minute(text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if hour * 60 + minute > LAST_MINUTE or minute > 59:
        raise ValueError(f"'{text}', not a time of day")
    return hour * 60 + minute


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"'{text}', not days (mon tue wed thu fri sat sun, as in mon-fri or sat,sun)")
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7
        found |= {(begin + step) % 7 for step in range(length + 1)}
    return frozenset(found)


def _span(window: Window, day: date, zone: tzinfo) -> tuple[int, int]:
    last = day if window.end > window.start else day + timedelta(days=1)
    return _first_reading(day, window.start, zone), _first_reading(last, window.end, zone)


def _first_reading(day: date, minute: int, zone: tzinfo) -> int:
    """The first instant of `day` at which the local clock reads `minute` or later, in epoch ms."""
    wanted = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minute)
    early, late = sorted(_epoch_s(wanted.replace(fold=fold, tzinfo=zone)) for fold in (0, 1))
    if _reading(early, zone) == wanted or early == late:
        return early * 1000
    while late - early > 1:  # the clock skips this reading: find the moment when it is set forward
        middle = (early + late) // 2
        if _reading(middle, zone) >= wanted:
            late = middle
        else:
            early = middle
    return late * 1000


def _epoch_s(moment: datetime) -> int:
    return round(moment.timestamp())


def _reading(epoch_s: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(epoch_s, zone).replace(tzinfo=None, fold=0)


def _local(epoch_ms: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(epoch_ms // 1000, zone)
