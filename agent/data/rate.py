"""How fast something comes, lately."""

from __future__ import annotations

import math

from agent.ports import Clock


class Rate:
    """An exponentially weighted rate per second over about `tau_s`; right from the start, not only after `tau_s`."""

    def __init__(self, clock: Clock, tau_s: float) -> None:
        self._clock = clock
        self._tau_s = tau_s
        self._began_s = self._at_s = clock.monotonic()
        self._weight = 0.0

    def add(self, amount: float) -> None:
        """Count `amount` now."""
        self._decay()
        self._weight += amount

    def per_s(self) -> float:
        """Amount per second."""
        self._decay()
        age_s = self._at_s - self._began_s
        span_s = self._tau_s * (1.0 - math.exp(-age_s / self._tau_s))
        return self._weight / max(span_s, 1.0)

    def _decay(self) -> None:
        now_s = self._clock.monotonic()
        self._weight *= math.exp(-(now_s - self._at_s) / self._tau_s)
        self._at_s = now_s
