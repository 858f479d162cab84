"""How the container engine itself is: whether it answers, and the troubles of its own that people must mend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from agent.control.converge.supervisor import Alarms
from agent.domain.alarm import Severity
from agent.domain.platform import EngineInfo, Platform
from agent.errors import GatewayError
from agent.ports import Engine

PING_S = 15.0
SOURCE = "engine"
UNREACHABLE = "unreachable"
TROUBLES: Mapping[str, Severity] = {
    "engine.bridge_missing": Severity.MAJOR,
    "engine.no_space": Severity.MAJOR,
    "engine.store_ill": Severity.MAJOR,
    "engine.network_ghost": Severity.MAJOR,
    "engine.host_rule": Severity.MAJOR,
}
"""Errors of steps that are the engine's or the host's own trouble, whatever APP met them."""


class EngineWatch:
    """`errors` gives each instance's present error; `look` is called whenever one may have changed.

    `info` is what the engine said of itself when it last came (back); None before it was ever there.
    """

    def __init__(self, engine: Engine, alarms: Alarms, errors: Callable[[], Mapping[str, GatewayError]]) -> None:
        self._engine = engine
        self._alarms = alarms
        self._errors = errors
        self._standing: set[str] = set()
        self._met: dict[str, dict[str, GatewayError]] = {}
        self._exposed: GatewayError | None = None
        self.up = False
        self.info: EngineInfo | None = None

    @property
    def folder(self) -> str:
        """Where the engine keeps its data; "" while that is not known."""
        return self.info.root_dir if self.info is not None else ""

    def platform(self) -> Platform | None:
        """The engine's; None before it was ever reached."""
        return self.info.platform if self.info else None

    async def run(self, every_s: float = PING_S) -> None:
        """Ask the engine now and then whether it is there, for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(every_s)

    async def ask(self) -> None:
        """Ask once. An engine that comes (back) may be another one: it is asked what it is."""
        try:
            if self.up:
                await self._engine.ping()
            else:
                self.info = await self._engine.info()
        except GatewayError as error:
            self.up = False
            message = f"{error}; what runs goes on running, nothing can be changed"
            self._alarms.raise_alarm(SOURCE, UNREACHABLE, Severity.MAJOR, message)
        else:
            self.up = True
            self._alarms.clear_alarm(SOURCE, UNREACHABLE)
            await self._assure_isolation()

    async def _assure_isolation(self) -> None:
        """A reloaded firewall takes the host's rules away while containers run on: they are put back, or it is said."""
        try:
            await self._engine.assure_isolation()
        except GatewayError as error:
            self._exposed = error
        else:
            self._exposed = None
        self.look("")

    def look(self, _instance: str) -> None:
        """Raise an alarm for each trouble that some instance meets, and clear those that none does.

        An instance that meets one after the other meets all of them until it gets through: one alarm an episode.
        """
        self._met = {
            instance: {**self._met.get(instance, {}), error.code: error} for instance, error in self._errors().items()
        }
        met = {code: error for each in self._met.values() for code, error in each.items() if code in TROUBLES}
        if self._exposed is not None and self._exposed.code in TROUBLES:
            met[self._exposed.code] = self._exposed
        for code, error in met.items():
            self._alarms.raise_alarm(SOURCE, code.removeprefix("engine."), TROUBLES[code], str(error))
        for code in self._standing - met.keys():
            self._alarms.clear_alarm(SOURCE, code.removeprefix("engine."))
        self._standing = set(met)
