"""The control law, pure: pressures in, valve openings and messages out. No clock, no gateway."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Notice(StrEnum):
    """What the outside must hear of."""

    OVERPRESSURE = "overpressure"
    RELIEVED = "relieved"
    BLIND = "blind"
    SEEING = "seeing"


@dataclass(frozen=True, slots=True)
class Limits:
    """`limit_bar` is never to be passed; the valve begins to close `band_bar` below it."""

    limit_bar: float
    band_bar: float

    def opening(self, pressure_bar: float) -> int:
        """Percent: 100 up to the band, 0 from the limit on, and in proportion between."""
        share = (self.limit_bar - pressure_bar) / self.band_bar
        return round(100 * min(1.0, max(0.0, share)))


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now. `opening` None: leave the valve."""

    opening: int | None = None
    notices: tuple[Notice, ...] = ()


class Guard:
    """The loop's memory: the opening that was last asked for, and which notices stand."""

    def __init__(self, limits: Limits, *, silent_s: float, step_percent: int = 2) -> None:
        self.limits = limits
        self.over = False
        self.blind = False
        self._silent_s = silent_s
        self._step = step_percent
        self._opening: int | None = None
        self._seen_s: float | None = None

    def see(self, pressure_bar: float, *, good: bool, now_s: float) -> Decision:
        """A new value. `now_s` is monotonic. A value that is not good moves nothing and does not count as seeing."""
        if not good or not math.isfinite(pressure_bar):
            return self.tick(now_s)
        self._seen_s = now_s
        notices: list[Notice] = []
        if self.blind:
            self.blind = False
            notices.append(Notice.SEEING)
        if pressure_bar > self.limits.limit_bar and not self.over:
            self.over = True
            notices.append(Notice.OVERPRESSURE)
        elif self.over and pressure_bar <= self.limits.limit_bar - self.limits.band_bar / 2:
            # Half a band back, so that a pressure that trembles at the limit is one episode.
            self.over = False
            notices.append(Notice.RELIEVED)
        return Decision(self._move(self.limits.opening(pressure_bar)), tuple(notices))

    def tick(self, now_s: float) -> Decision:
        """Time has passed without a good value."""
        if self._seen_s is None:
            self._seen_s = now_s
        if not self.blind and now_s - self._seen_s > self._silent_s:
            self.blind = True
            # The valve stays: its driver has the safe value, and a guess here would fight it.
            return Decision(notices=(Notice.BLIND,))
        return Decision()

    def lost(self) -> None:
        """A write did not arrive: the valve's opening is unknown, so the next value writes again."""
        self._opening = None

    def _move(self, opening: int) -> int | None:
        """The opening, if it is worth a write: the ends always, in between only a real step."""
        before = self._opening
        if before == opening:
            return None
        if before is not None and opening not in (0, 100) and abs(opening - before) < self._step:
            return None
        self._opening = opening
        return opening
