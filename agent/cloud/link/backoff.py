"""How long to wait before the next attempt: doubling, capped, jittered, and never giving up."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays in seconds. A session that lasted `healthy_s` makes the next failure the first one again.

    Until then the delays go on growing: two clients that throw each other out of one session must not do so
    ten times a second.
    """

    def __init__(
        self, min_s: float, max_s: float, *, healthy_s: float = 10.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._healthy_s = healthy_s
        self._chance = chance
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """Failures in a row."""
        return self._attempts

    def next_delay_s(self) -> float:
        """Between half and the whole of ``min * 2^attempts``, at most `max_s`."""
        whole_s = min(self._max_s, self._min_s * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return whole_s * (0.5 + 0.5 * self._chance())

    def note_session(self, lasted_s: float) -> None:
        """A session was up for so long and has ended."""
        if lasted_s >= self._healthy_s:
            self._attempts = 0
