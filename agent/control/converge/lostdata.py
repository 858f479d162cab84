"""A named volume that somebody removed by hand is made again, but its data are gone: that is said until it was heard.

One alarm a volume. It is over when somebody has acknowledged it, when the next version comes, or the APP goes.
"""

from __future__ import annotations

import logging

from agent.control.converge.supervisor import Alarms
from agent.control.ledger import Ledger
from agent.domain.alarm import Alarm, Severity
from agent.domain.app import Trial
from agent.domain.journal import Change

log = logging.getLogger("agent.control.converge.lostdata")

DATA_GONE = "data_gone"


class LostData:
    """`tell` hears of each loss before the volume is made again; `look` of every look at an instance."""

    def __init__(self, ledger: Ledger, alarms: Alarms) -> None:
        self._alarms = alarms
        ledger.listen(self._on_change)

    def tell(self, instance: str, volume: str) -> None:
        """The volume `volume` of `instance` was not there any more. Once, however often its making is tried before it succeeds."""
        of_it = [each for each in self._of(instance) if each.source == f"{_source(instance)}{volume}"]
        if any(not each.acknowledged_ms for each in of_it):
            return
        log.error("volume_data_gone instance=%s volume=%s", instance, volume)
        message = (
            f"{instance}: its volume {volume} was removed by somebody, and all data in it are gone; it is made again, empty:"
            f" bring the data back from a copy of your own if you have one, then acknowledge this alarm"
        )
        self._alarms.raise_alarm(f"{_source(instance)}{volume}", DATA_GONE, Severity.MAJOR, message)

    def look(self, instance: str) -> None:
        """What somebody has acknowledged does not stand for ever."""
        for alarm in self._of(instance):
            if alarm.acknowledged_ms:
                self._alarms.clear_alarm(alarm.source, alarm.code)

    def _on_change(self, change: Change) -> None:
        begun = [d.name for d in change.desired if d.trial is Trial.VERIFYING and not d.windows]
        for instance in (*change.gone, *begun):
            for alarm in self._of(instance):
                self._alarms.clear_alarm(alarm.source, alarm.code)

    def _of(self, instance: str) -> list[Alarm]:
        source = _source(instance)
        return [a for a in self._alarms.active() if a.code == DATA_GONE and a.source.startswith(source)]


def _source(instance: str) -> str:
    return f"app:{instance}/"
