"""Whether an alarm was raised once for a trouble, and cleared when it was over: read from the agent's log."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable

from tests.faults.lab.gateway import Gateway

CLEARED_WITHIN_S = 20.0
"""The agent asks the engine every 15 s whether it is there."""
_ALARM = re.compile(r" alarm_(raise|clear) key=(engine/\S+) ")
_FAILED_STEP = re.compile(r" step_failed .* code=engine\.(no_space|store_ill|network_ghost|bridge_missing) ")


class AlarmWatch:
    """The engine's alarms in one round, which begins now."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._begin = gateway.agent.log.stat().st_size

    def check(self, *, must: Iterable[str] = (), may: Iterable[str] = ("engine/unreachable",)) -> str:
        """Wait until nothing stands; "" when each trouble that a step met, and each that `must`, was raised once.

        Those that `may` were raised at most once. Nothing else was.
        """
        deadline = time.monotonic() + CLEARED_WITHIN_S
        while True:
            problem = self._look(set(must), set(may))
            if not problem or time.monotonic() > deadline:
                return problem
            time.sleep(0.2)

    def met(self) -> bool:
        """Whether a step has met a trouble of the engine's since."""
        return bool(_FAILED_STEP.search(self._read()))

    def _read(self) -> str:
        with self._gateway.agent.log.open() as log:
            log.seek(self._begin)
            return log.read()

    def _look(self, must: set[str], may: set[str]) -> str:
        text = self._read()
        must |= {f"engine/{code}" for code in _FAILED_STEP.findall(text)}
        raised, cleared = Counter[str](), Counter[str]()
        for state, key in _ALARM.findall(text):
            (raised if state == "raise" else cleared)[key] += 1
        for key in must | raised.keys():
            most, least = int(key in must | may), int(key in must)
            if not least <= raised[key] <= most:
                return f"the alarm {key} was raised {raised[key]} times, not {most}"
            if cleared[key] != raised[key]:
                return f"the alarm {key} was raised {raised[key]} and cleared {cleared[key]} times"
        return ""
