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

    __slots__ = (
        "_at_ms",
        "_held",
        "_held_ms",
        "_kept_at_s",
        "_newest_ms",
        "_quality",
        "_value",
        "max_interval_ms",
        "width",
    )

    def __init__(self, width: float, max_interval_ms: int | None) -> None:
        self.width = width
        self.max_interval_ms = max_interval_ms
        # The sample kept last, and the newest one held back since. Plain fields: this is the hot path.
        self._at_ms = 0
        self._value: Scalar | None = None
        self._quality = Quality.GOOD
        self._held: Scalar | None = None
        self._held_ms = 0
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
        last = self._value
        if last is None:
            return self._keep(t_ms, value, quality, now_s)
        if t_ms < self._newest_ms:
            late = (t_ms, value, quality)
            if self._held is None:
                return (late, *self._keep(self._at_ms, last, self._quality, now_s))
            return (late, *self._keep(self._held_ms, self._held, self._quality, now_s))
        self._newest_ms = t_ms
        plain = type(value) is float and type(last) is float
        moved = not -self.width <= value - last <= self.width if plain else self._moved(last, value)  # type: ignore[operator]
        interval_ms = self.max_interval_ms
        if moved or quality is not self._quality or (interval_ms is not None and t_ms - self._at_ms >= interval_ms):
            return self._keep(t_ms, value, quality, now_s)
        self._held = value
        self._held_ms = t_ms
        return ()

    def flush_due(self, now_s: float) -> tuple[Kept, ...]:
        """The newest sample held back, when the interval is over and no other came to end it."""
        due_s = self.due_s
        if due_s is None or due_s > now_s or self._held is None:
            return ()
        return self._keep(self._held_ms, self._held, self._quality, now_s)

    def _moved(self, last: Scalar, value: Scalar) -> bool:
        if isinstance(last, str | bool) or isinstance(value, str | bool):
            return last != value
        return not -self.width <= value - last <= self.width

    def _keep(self, t_ms: int, value: Scalar, quality: Quality, now_s: float) -> tuple[Kept, ...]:
        self._at_ms = t_ms
        self._value = value
        self._quality = quality
        self._held = None
        self._newest_ms = max(self._newest_ms, t_ms)
        self._kept_at_s = now_s
        return ((t_ms, value, quality),)
