"""What tests see of an alarm book, also across agents: the book is the real one."""

from __future__ import annotations

from collections.abc import Mapping

from agent.data.alarms import AlarmBook
from agent.domain.alarm import Alarm


class AlarmWatch:
    """`book` is the agent's of now; `raised` lists each episode of all of them by its key, oldest first."""

    def __init__(self) -> None:
        self.raised: list[str] = []

    def follow(self, book: AlarmBook) -> None:
        """Watch this book from now on."""
        self.book = book
        book.on_change.append(self._see)

    @property
    def standing(self) -> Mapping[str, Alarm]:
        """What stands now, by key."""
        return {alarm.key: alarm for alarm in self.book.active()}

    def _see(self, alarm: Alarm) -> None:
        if alarm.active and alarm.count == 1 and not alarm.acknowledged_ms:
            self.raised.append(alarm.key)
