"""Sizes in words for alarms and reasons, the same everywhere."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def show_bytes(count: int) -> str:
    """``64 MiB``, ``1.5 GiB``, ``312 bytes``."""
    if count < 1024:
        return f"{count} bytes"
    value = float(count)
    unit = _UNITS[0]
    for unit in _UNITS:
        value /= 1024
        if value < 1000:
            break
    text = f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{text.removesuffix('.0')} {unit}"
