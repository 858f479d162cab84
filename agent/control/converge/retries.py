"""When an instance whose steps failed is tried again: soon at first, then at a steady pace for as long as it takes.

What stands in the way (a full disk, a lost bridge, an engine that is going) is mostly not the instance's own. So the
waits stay short; the more instances wait, the longer each does, so that together they never storm the engine; and the
first one that gets through calls the others that met the same trouble.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from agent.domain.app import Desired

FIRST_S = 1.0
LAST_S = 10.0
"""Well below the 30 s within which all shall be well once the trouble is over."""
APART_S = 0.5
"""On the average, all that fail together make one try in so long."""
_DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class _Trouble:
    """`goal` is what was wanted when it failed `count` times in a row, last with `code`."""

    goal: Desired | None
    code: str
    count: int


class Retries:
    """The instances that failed last time. `jitter` gives numbers in [0, 1)."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._troubles: dict[str, _Trouble] = {}

    def __contains__(self, instance: str) -> bool:
        return instance in self._troubles

    def fail(self, instance: str, goal: Desired | None, code: str) -> int:
        """Note a failure; how many there were in a row on the way to `goal`."""
        before = self._troubles.get(instance)
        count = before.count + 1 if before is not None and before.goal == goal else 1
        self._troubles[instance] = _Trouble(goal, code, count)
        return count

    def wait_s(self, instance: str) -> float:
        """How long to wait now before the next try."""
        last_s = max(LAST_S, APART_S * len(self._troubles))
        wait_s: float = min(last_s, FIRST_S * 2 ** min(self._troubles[instance].count - 1, _DOUBLINGS))
        return wait_s * (0.75 + 0.5 * self._jitter())

    def succeed(self, instance: str) -> list[str]:
        """Forget its failures; the others that met the same trouble, and may try at once."""
        mine = self._troubles.pop(instance, None)
        return [other for other, its in self._troubles.items() if mine is not None and its.code == mine.code]
