"""Tumbling windows in event time: many samples of one point become one aggregate.

A window closes when a sample shows that event time has passed its end by the lateness, or when so much monotonic time
has gone by that it must have. A sample for a window that has closed already becomes a correction: one more aggregate
of the same window, marked late. So every sample is counted exactly once, whatever the order.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_OPEN = 32
LATE_OPEN_S = 5.0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What one window held. `t0_ms` <= t < `t1_ms`; first and last are by event time. `bad`: samples left out."""

    t0_ms: int
    t1_ms: int
    n: int
    min: float
    max: float
    mean: float
    first: float
    last: float
    late: bool = False
    bad: int = 0
    unsynced: bool = False


class _Open:
    """A window that still takes samples."""

    __slots__ = (
        "bad",
        "due_s",
        "first",
        "first_ms",
        "last",
        "last_ms",
        "late",
        "max",
        "min",
        "n",
        "sum",
        "t0",
        "t1",
        "unsynced",
    )

    def __init__(self, t0_ms: int, t1_ms: int, due_s: float, *, late: bool) -> None:
        self.t0 = t0_ms
        self.t1 = t1_ms
        self.due_s = due_s
        self.late = late
        self.n = 0
        self.bad = 0
        self.sum = 0.0
        self.min = self.max = self.first = self.last = 0.0
        self.first_ms = self.last_ms = 0
        self.unsynced = False

    def add(self, t_ms: int, value: float) -> None:
        if self.n == 0:
            self.min = self.max = self.first = self.last = value
            self.first_ms = self.last_ms = t_ms
        else:
            if value < self.min:
                self.min = value
            elif value > self.max:
                self.max = value
            if t_ms >= self.last_ms:
                self.last = value
                self.last_ms = t_ms
            elif t_ms < self.first_ms:
                self.first = value
                self.first_ms = t_ms
        self.n += 1
        self.sum += value

    def close(self) -> Aggregate:
        # Rounding may carry the mean of equal values past them by one unit in the last place.
        mean = min(max(self.sum / self.n, self.min), self.max)
        return Aggregate(
            self.t0,
            self.t1,
            self.n,
            self.min,
            self.max,
            mean,
            self.first,
            self.last,
            self.late,
            self.bad,
            self.unsynced,
        )


class Tumbling:
    """The open windows of one point, at most `MAX_OPEN`.

    `width_ms` and `lateness_ms` are event time. Values are finite and below 1e300, so that their sum is finite too.
    """

    __slots__ = ("_closed_to", "_current", "_older", "lateness_ms", "width_ms")

    def __init__(self, width_ms: int, lateness_ms: int) -> None:
        self.width_ms = width_ms
        self.lateness_ms = lateness_ms
        self._current: _Open | None = None
        self._older: list[_Open] = []
        self._closed_to: int | None = None

    @property
    def due_s(self) -> float | None:
        """The monotonic time at which `close_due` has something to do; None without an open window."""
        return min((each.due_s for each in self._all()), default=None)

    def add(self, t_ms: int, value: float, now_s: float, unsynced: bool = False) -> list[Aggregate] | None:
        """Count one sample. Returns the aggregates that this closed, oldest first, or None."""
        closed = None
        window = self._current
        if window is None or not window.t0 <= t_ms < window.t1:
            window, closed = self._window(t_ms, now_s)
        elif self._older and t_ms >= window.t0 + self.lateness_ms:
            closed = self._close_before(t_ms)
        if window.n and t_ms >= window.last_ms:  # `_Open.add` written out for what nearly every sample is
            if value < window.min:
                window.min = value
            elif value > window.max:
                window.max = value
            window.last = value
            window.last_ms = t_ms
            window.n += 1
            window.sum += value
        else:
            window.add(t_ms, value)
        if unsynced:
            window.unsynced = True
        return closed or None

    def add_bad(self, t_ms: int, now_s: float) -> list[Aggregate] | None:
        """Note a sample whose value cannot be trusted: it moves event time on and is counted apart."""
        window, closed = self._window(t_ms, now_s)
        window.bad += 1
        return closed or None

    def close_due(self, now_s: float) -> list[Aggregate]:
        """Close what monotonic time says is over, for a source that fell silent."""
        return self._close([each for each in self._all() if each.due_s <= now_s])

    def close_all(self) -> list[Aggregate]:
        """Close everything, because the point goes or its settings change. The rest of a window follows as late."""
        return self._close(self._all())

    def _all(self) -> list[_Open]:
        return [*self._older, self._current] if self._current is not None else list(self._older)

    def _window(self, t_ms: int, now_s: float) -> tuple[_Open, list[Aggregate]]:
        """The window for `t_ms`, made if need be, and what making it closed."""
        t0 = t_ms - t_ms % self.width_ms
        for each in self._all():
            if each.t0 == t0:
                return each, []
        t1 = t0 + self.width_ms
        current = self._current
        if (self._closed_to is not None and t1 <= self._closed_to) or (
            current is not None and t1 + self.lateness_ms <= current.t0
        ):
            window = _Open(t0, t1, now_s + LATE_OPEN_S, late=True)
        else:
            window = _Open(t0, t1, now_s + (t1 - t_ms + self.lateness_ms) / 1000.0, late=False)
            if current is None or t0 > current.t0:
                self._current = window
                if current is not None:
                    self._older.append(current)
                return window, self._close_before(t_ms)
        closed = self._close(self._older[:1]) if len(self._older) >= MAX_OPEN else []
        self._older.append(window)
        return window, closed

    def _close_before(self, t_ms: int) -> list[Aggregate]:
        horizon = t_ms - self.lateness_ms
        return self._close([each for each in self._older if each.t1 <= horizon and not each.late])

    def _close(self, done: list[_Open]) -> list[Aggregate]:
        if not done:
            return []
        self._older = [each for each in self._older if each not in done]
        if self._current in done:
            self._current = None
        latest = max(each.t1 for each in done)
        self._closed_to = latest if self._closed_to is None else max(self._closed_to, latest)
        return [each.close() for each in sorted(done, key=lambda each: each.t0) if each.n]
