"""Deadband with a maximum reporting interval: of the samples of one point, those that say something new."""

from __future__ import annotations

from agent.domain.sample import Quality, Scalar

Kept = tuple[int, Scalar, Quality]
"""(t_ms, value, quality) of a sample that is reported."""


class Deadband:
    """Keeps a sample when it left the band around the last one kept, changed quality, or when the interval is over.

    Held values reconstruct the series: for samples in order of time none is off by more than `width`. A sample that
    comes late is always kept, and the newest one held back is kept again after it. `max_interval_ms` None: never
    report an unchanged value. For booleans and texts, `width` is 0 and any change counts.
    """

    __slots__ = ("_held", "_kept_at_s", "_last", "_newest_ms", "max_interval_ms", "width")

    def __init__(self, width: float, max_interval_ms: int | None) -> None:
        self.width = width
        self.max_interval_ms = max_interval_ms
        self._last: Kept | None = None
        self._held: Kept | None = None
        self._newest_ms = 0
        self._kept_at_s = 0.0

    @property
    def due_s(self) -> float | None:
        """When `flush_due` has something to do, on the monotonic clock; None when nothing is held back."""
        if self._held is None or self.max_interval_ms is None:
            return None
        return self._kept_at_s + self.max_interval_ms / 1000.0

    def offer(self, t_ms: int, value: Scalar, quality: Quality, now_s: float) -> tuple[Kept, ...]:
        """The samples to report now: none, this one, or for a late one this and the newest held back."""
        last = self._last
        if last is None:
            return self._keep((t_ms, value, quality), now_s)
        if t_ms < self._newest_ms:
            newest = self._held or last
            return ((t_ms, value, quality), *self._keep(newest, now_s))
        self._newest_ms = t_ms
        if quality is not last[2] or self._moved(last[1], value):
            return self._keep((t_ms, value, quality), now_s)
        if self.max_interval_ms is not None and t_ms - last[0] >= self.max_interval_ms:
            return self._keep((t_ms, value, quality), now_s)
        self._held = (t_ms, value, quality)
        return ()

    def flush_due(self, now_s: float) -> tuple[Kept, ...]:
        """The newest sample held back, when the interval is over and no other came to end it."""
        due_s = self.due_s
        if due_s is None or due_s > now_s or self._held is None:
            return ()
        return self._keep(self._held, now_s)

    def _moved(self, last: Scalar, value: Scalar) -> bool:
        if isinstance(last, str) or isinstance(value, str) or isinstance(last, bool) or isinstance(value, bool):
            return last != value
        return abs(value - last) > self.width

    def _keep(self, sample: Kept, now_s: float) -> tuple[Kept, ...]:
        self._last = sample
        self._held = None
        self._newest_ms = max(self._newest_ms, sample[0])
        self._kept_at_s = now_s
        return (sample,)
