"""How long to wait before the next try, so that many gateways that met one trouble do not come back as one."""

from __future__ import annotations

SPREAD_LEAST = 0.5
SPREAD_MOST = 1.5


def pause_s(wait_s: float, asked_s: float, chance: float) -> float:
    """Seconds between half and one and a half of `wait_s`, as `chance` in [0, 1) falls; never less than `asked_s`.

    `asked_s` is what the other side asked for (``Retry-After``), 0 when it did not.
    """
    return max(asked_s, wait_s * (SPREAD_LEAST + (SPREAD_MOST - SPREAD_LEAST) * chance))
