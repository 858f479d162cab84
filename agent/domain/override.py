"""A technician's change to the settings of points that APPs publish (points.d)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.domain.sample import PointConfig


@dataclass(frozen=True, slots=True)
class PointOverride:
    """Changes for every point that `filter` (a name or an MQTT filter) covers. `source` is ``file:line``.

    `changes` are fields of `PointConfig`.
    """

    filter: str
    changes: Mapping[str, Any]
    source: str = ""

    def apply(self, config: PointConfig) -> PointConfig:
        """The point's settings after the change."""
        return replace(config, **self.changes)

    @property
    def breadth(self) -> tuple[int, int, str]:
        """Order of application: the widest filter first, an exact name last."""
        levels = self.filter.split("/")
        return (0 if levels[-1] == "#" else 1, len(levels) - levels.count("+"), self.filter)
