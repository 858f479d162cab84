"""Writes of rules that did not arrive: the driver was not there, did not answer, or said that it failed.

A rule acts once, when it changes. What it wrote holds for as long as it stays where it is, so a write that was lost is
made again: as soon as the owner of the point listens, else with growing pauses; never after the rule has moved on.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.data.timers import Handle, Timers
from agent.domain.rule import WriteAction

FIRST_S = 1.0
LAST_S = 30.0


class OwedWrites:
    """One write a point, the newest. `again(rule, action)` makes it anew: False when that rule no longer means it."""

    def __init__(self, again: Callable[[str, WriteAction], bool], owner: Callable[[str], str], timers: Timers) -> None:
        self._again = again
        self._owner = owner
        self._timers = timers
        self._owed: dict[str, tuple[str, WriteAction]] = {}
        self._pause_s = FIRST_S
        self._timer: Handle | None = None

    def owe(self, rule: str, action: WriteAction) -> None:
        """This write of a rule was lost."""
        self._owed[action.point] = (rule, action)
        if self._timer is None:
            self._timer = self._timers.call_later(self._pause_s, self._retry)
            self._pause_s = min(self._pause_s * 2, LAST_S)

    def forget(self, rule: str) -> None:
        """The rule acts anew, or is no more."""
        if self._owed:
            self._owed = {point: each for point, each in self._owed.items() if each[0] != rule}

    def replaced(self, point: str) -> None:
        """A newer write went to this point."""
        self._owed.pop(point, None)

    def arrived(self) -> None:
        """One that was made again arrived: the next loss begins with a short pause."""
        self._pause_s = FIRST_S

    def on_attached(self, instance: str) -> None:
        """An APP listens (again): make the writes to its points now."""
        self._pay([point for point in self._owed if self._owner(point) == instance])

    def _retry(self) -> None:
        self._timer = None
        if not self._owed:
            self._pause_s = FIRST_S
        self._pay(list(self._owed))

    def _pay(self, points: list[str]) -> None:
        for point in points:
            rule, action = self._owed.pop(point)
            self._again(rule, action)
