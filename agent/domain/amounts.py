"""Sizes in words for alarms and reasons, the same everywhere."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def show_bytes(count: int) -> str:
    """``64 MiB``, ``1.5 GiB``, ``312 bytes``."""
    if count < 1024:
        return f"{count} bytes"
    value, power = count / 1024, 0
    while value >= 1000 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    text = f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{text.removesuffix('.0')} {_UNITS[power]}"
