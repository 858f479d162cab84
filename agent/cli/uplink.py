"""`ecgw uplink`: what waits for the cloud, and for how long there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.cli.screen import Screen
from agent.cli.status import readable
from agent.cli.verb import Verb


def show_uplink(screen: Screen, data: Any) -> None:
    """Names carry the unit in the reply; people get "h" and "MB"."""
    if not isinstance(data, Mapping):
        screen.line(str(data))
        return
    shown = readable(data)
    for key in [key for key in shown if key.endswith(("_hours", "hours_left"))]:
        value = shown[key]
        if isinstance(value, int | float):
            shown[key] = f"{value:.1f} h"
    screen.pairs(shown)


VERBS = (
    Verb(
        "",
        "Store-and-forward: what waits by priority, hours of room left, time to drain.",
        type="uplink.status",
        render=show_uplink,
    ),
)
