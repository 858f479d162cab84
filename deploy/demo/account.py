"""What a step shows: claims that hold, figures that were measured, and the words on the screen while it goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
Figure = bool | int | float | str


class ClaimFailed(Exception):
    """Something that the demo says was not so; carries what was seen instead."""


@dataclass(slots=True)
class Outcome:
    """One step as it stands in `build/demo.json`."""

    name: str
    ok: bool = False
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The contract's four keys, and the error of a step that failed."""
        body: dict[str, Any] = {"name": self.name, "ok": self.ok, "seconds": self.seconds, "figures": self.figures}
        return {**body, "error": self.error} if self.error else body


class Account:
    """Keeps one step's figures and prints as it goes. `check` raises ClaimFailed, so a step ends at its first untruth."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def title(self, number: int, count: int) -> None:
        """The step's headline."""
        self._say(f"\n[{number}/{count}] {self._outcome.name}", "1")

    def note(self, text: str) -> None:
        """What is being done now."""
        self._say(f"   ..  {text}", "2")

    def check(self, holds: object, claim: str, seen: object = "") -> None:
        """A claim and what was seen; the witness belongs into one of the two."""
        shown = f"{claim}: {seen}" if seen not in ("", None) else claim
        if not holds:
            self._say(f"   NO  {shown}", "31")
            raise ClaimFailed(shown)
        self._say(f"   ok  {shown}", "")

    def figure(self, name: str, value: Figure | list[Any] | dict[str, Any]) -> None:
        """One measured figure; the unit is part of its name."""
        self._outcome.figures[name] = round(value, 3) if isinstance(value, float) else value

    def wait(self, look: Callable[[], T | None], claim: str, within_s: float, every_s: float = 0.1) -> T:
        """The first thing that `look` finds (not None, not False); the claim fails at the deadline."""
        deadline = time.monotonic() + within_s
        while True:
            found = look()
            if found is not None and found is not False:
                return found
            if time.monotonic() > deadline:
                self.check(False, claim, f"not within {within_s:g} s")
            time.sleep(every_s)

    def _say(self, text: str, style: str) -> None:
        print(f"\x1b[{style}m{text}\x1b[0m" if self._colour and style else text, flush=True)
