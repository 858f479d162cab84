"""A local rule as a technician or the cloud wrote it: when an expression holds for so long, then act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.domain.alarm import Severity
from agent.domain.priority import Priority
from agent.domain.sample import Scalar


class OnBad(StrEnum):
    """What a condition is worth while an input is bad: keep the last answer, false, or true."""

    HOLD = "hold"
    FALSE = "false"
    TRUE = "true"


@dataclass(frozen=True, slots=True)
class WriteAction:
    """Write `value` to the point; held to the point's write limits like any other write."""

    point: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class AlarmAction:
    """Raise the alarm ``rule:<rule name>/<code>``; raising it again while active changes nothing."""

    code: str
    severity: Severity
    message: str = ""


@dataclass(frozen=True, slots=True)
class ClearAction:
    """Clear the alarm that this rule raised under `code`."""

    code: str


@dataclass(frozen=True, slots=True)
class EventAction:
    """Send a high-value event up. `data` is plain JSON."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    priority: Priority = Priority.CRITICAL


Action = WriteAction | AlarmAction | ClearAction | EventAction


@dataclass(frozen=True, slots=True)
class Silence:
    """What to do once no sample of some input has come for `after_s` seconds."""

    after_s: float
    then: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """One rule. `inputs` are (alias, point) pairs; `when` is a CEL expression over the aliases.

    An alias has the fields ``value``, ``previous``, ``quality``, ``age_s`` and ``rate``. The condition must hold for
    `for_s` seconds before `then` acts, once; `otherwise` acts once when it no longer holds. `source` is ``file:line``.
    """

    name: str
    inputs: tuple[tuple[str, str], ...]
    when: str
    for_s: float = 0.0
    then: tuple[Action, ...] = ()
    otherwise: tuple[Action, ...] = ()
    on_bad: OnBad = OnBad.HOLD
    silence: Silence | None = None
    source: str = ""

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names that `when` may use."""
        return tuple(alias for alias, _ in self.inputs)

    @property
    def points(self) -> tuple[str, ...]:
        """The points whose samples make this rule look again."""
        return tuple(point for _, point in self.inputs)
