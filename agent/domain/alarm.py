"""Alarms: one key, one episode, raised and cleared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_KEY: Final = 32_768
"""Characters of an alarm's key. The longest source is that of a stick's file: its whole path, of at most 4,095 bytes, each
of which may take six characters to be shown."""


class Severity(StrEnum):
    """Four levels, worst first."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Alarm:
    """`key` is unique per episode's subject: ``<source>/<code>``. Times are epoch ms; 0 means not yet."""

    source: str
    code: str
    severity: Severity
    message: str
    raised_ms: int
    acknowledged_ms: int = 0
    cleared_ms: int = 0
    count: int = 1

    @property
    def key(self) -> str:
        """One key for raise, acknowledge and clear."""
        return f"{self.source}/{self.code}"

    @property
    def active(self) -> bool:
        """True until it is cleared."""
        return self.cleared_ms == 0
