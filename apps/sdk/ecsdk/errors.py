"""What can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class EsdkError(Exception):
    """The gateway refused. `code` is stable (``esdk.not_granted``); `fields` are the problem document's other members."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "esdk.unknown"))
        self.title = str(problem.get("title", f"status {status}"))
        self.hint = str(problem.get("hint", ""))
        self.fields = dict(problem)
        super().__init__(f"{self.code}: {self.title}" + (f"; {self.hint}" if self.hint else ""))

    @property
    def retry_after_s(self) -> float:
        """Seconds to wait before trying again; 0 where trying again would not help."""
        wait = self.fields.get("retry_after_s", 1.0 if self.status in (429, 503) else 0.0)
        return float(wait) if isinstance(wait, int | float) else 0.0


class Unavailable(EsdkError):
    """Nobody answered in time: the gateway restarts, or is gone. What was asked may or may not have been done."""

    def __init__(self, why: str) -> None:
        super().__init__(503, {"code": "esdk.unavailable", "title": why, "hint": "try again later"})
