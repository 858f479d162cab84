"""Processes that the kernel killed for memory: one alarm per service, until it has been quiet for a while.

A kill counts wherever it is heard of first: the engine's event, its mark on the container, the kernel's counter. None
of them depends on the exit code: a child may die while the first process lives on or ends with 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.domain.alarm import Severity
from agent.domain.container import ContainerState, RunState
from agent.domain.ending import killed_for_memory

CODE = "killed_for_memory"
Key = tuple[str, str]
"""Instance and service."""
Run = tuple[str, str]
"""One run of a container: its id and when it was started."""


@dataclass(slots=True)
class _Kills:
    """What is known of one service. `at` is monotonic, `told` while its alarm stands.

    `marked` is the run in which the engine's mark was last seen, `counted` the run that `counter` belongs to.
    """

    at: float = float("-inf")
    told: bool = False
    marked: Run | None = None
    counted: Run | None = None
    counter: int = 0


class MemoryKills:
    """`raise_` and `clear` are the way to the alarm book; `quiet_s` without a kill ends the alarm."""

    def __init__(
        self,
        raise_: Callable[[Key, str, Severity, str], None],
        clear: Callable[[Key, str], None],
        quiet_s: float,
    ) -> None:
        self._raise = raise_
        self._clear = clear
        self._quiet_s = quiet_s
        self._services: dict[Key, _Kills] = {}

    def note(self, key: Key, now: float) -> None:
        """The kernel has killed in this service."""
        self._services.setdefault(key, _Kills()).at = now

    def adopt(self, key: Key, now: float) -> None:
        """An earlier agent's alarm stands."""
        self._services[key] = _Kills(at=now, told=True)

    def note_counter(self, container: ContainerState, count: int, now: float) -> bool:
        """The kernel's counter of the container's present run; True when it tells of a kill not known yet.

        What happened before this agent first looked is not news.
        """
        known = self._services.setdefault((container.instance, container.service), _Kills())
        run = (container.id, container.started_at)
        grown = count > known.counter if known.counted == run else known.counted is not None and count > 0
        known.counted, known.counter = run, count
        if grown and now - known.at >= self._quiet_s:
            known.at = now
            return True
        return False

    def look(self, container: ContainerState, now: float, *, looping: bool) -> float | None:
        """Raise or clear the alarm; seconds until it may be cleared. A crash loop's own alarm says it already."""
        key = (container.instance, container.service)
        run = (container.id, container.started_at)
        known = self._services.get(key)
        if container.oom_killed and (known is None or known.marked != run):
            news = known is not None or container.state is not RunState.RUNNING
            known = self._services.setdefault(key, _Kills())
            known.marked = run
            known.at = now if news else known.at
        if known is None:
            return None
        left_s = known.at + self._quiet_s - now
        if left_s <= 0 or looping:
            self._end(key, known)
            return None
        if not known.told:
            words = f"{key[0]}: service {key[1]}: {killed_for_memory(container.live.mem_bytes)}"
            self._raise(key, CODE, Severity.MINOR, f"{words}; give it more memory, or find out why it takes so much")
            known.told = True
        return left_s

    def recent(self, key: Key, now: float) -> bool:
        """True while a kill is not long ago."""
        known = self._services.get(key)
        return known is not None and now - known.at < self._quiet_s

    def forget(self, instance: str) -> None:
        """The instance is stopped, replaced or gone."""
        for key in [key for key in self._services if key[0] == instance]:
            self._end(key, self._services.pop(key))

    def _end(self, key: Key, known: _Kills) -> None:
        if known.told:
            known.told = False
            self._clear(key, CODE)
