"""What containers use: the kernel's counters, the rates between two looks, and what of it is worth telling anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What of a folder is counted at most, at one time.
MOST_ENTRIES = 200_000
MOST_DEPTH = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """One container now. `cpu_ns` counts up since its start; limits are 0 where there is none.

    `mem_bytes` leaves out file pages that the kernel can drop at once, as the engine counts it. `oom_kills` counts
    processes the kernel has killed for memory (None where this kernel does not tell). `periods` counts the kernel's
    slices of a limited processor, `throttled_periods` those in which it had to wait. Network bytes are None for a
    container without a network.
    """

    cpu_ns: int
    mem_bytes: int
    mem_limit_bytes: int
    pids: int
    pids_limit: int
    throttled_ns: int = 0
    oom_kills: int | None = None
    periods: int = 0
    throttled_periods: int = 0
    rx_bytes: int | None = None
    tx_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder takes on disk. `complete` is False when it was too much to count, or changed under the hands."""

    bytes: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class DiskUse:
    """One instance on disk: writable layers, logs, named volumes."""

    layer_bytes: int = 0
    log_bytes: int = 0
    volume_bytes: int = 0
    complete: bool = True

    @property
    def total_bytes(self) -> int:
        """All together."""
        return self.layer_bytes + self.log_bytes + self.volume_bytes


@dataclass(frozen=True, slots=True)
class Rates:
    """Between two looks at one run of a container. None: not known yet."""

    cpu_percent: float | None = None
    throttled_percent: float | None = None


def rates_between(before: Usage | None, now: Usage, seconds: float) -> Rates:
    """`cpu_percent` of one core, `throttled_percent` of its slices; a container that was restarted begins anew."""
    if before is None or seconds <= 0 or now.cpu_ns < before.cpu_ns:
        return Rates()
    periods = now.periods - before.periods
    throttled = now.throttled_periods - before.throttled_periods
    waited = max(0.0, min(100.0, 100 * throttled / periods)) if periods > 0 else 0.0
    return Rates((now.cpu_ns - before.cpu_ns) / seconds / 1e7, waited)


def percent_of(part: int, whole: int) -> float | None:
    """None where there is no limit."""
    return 100 * part / whole if whole > 0 else None


def describe_usage(usage: Usage, rates: Rates) -> dict[str, Any]:
    """One service's use, as people and clouds are shown it."""
    shown: dict[str, Any] = {
        "cpu_s": round(usage.cpu_ns / 1e9, 3),
        "cpu_percent": None if rates.cpu_percent is None else round(rates.cpu_percent, 1),
        "throttled_s": round(usage.throttled_ns / 1e9, 3),
        "throttled_percent": None if rates.throttled_percent is None else round(rates.throttled_percent, 1),
        "mem_bytes": usage.mem_bytes,
        "mem_limit_bytes": usage.mem_limit_bytes,
        "pids": usage.pids,
        "pids_limit": usage.pids_limit,
        "oom_kills": usage.oom_kills,
    }
    if usage.rx_bytes is not None:
        shown |= {"net_rx_bytes": usage.rx_bytes, "net_tx_bytes": usage.tx_bytes}
    return shown


_STEPS: Mapping[str, float] = {
    "cpu_percent": 10.0,
    "throttled_percent": 20.0,
    "mem_bytes": 4 * 1024**2,
    "pids": 8,
    "oom_kills": 0.5,
    "total_bytes": 4 * 1024**2,
}
_SHARE = 0.2


def is_news(told: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """True when what `now` says differs from what was `told` by so much that a link that costs money should carry it.

    A counter that only counts on is no news; a measure that has moved by a fifth, and by more than a trifle, is.
    """
    if told.keys() != now.keys():
        return True
    for key, value in now.items():
        before = told[key]
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if is_news(before, value):
                return True
        elif key in _STEPS and _moved(before or 0, value or 0, _STEPS[key]):
            return True
    return False


def _moved(before: float, now: float, step: float) -> bool:
    apart = abs(now - before)
    return apart > step and apart > _SHARE * max(abs(before), abs(now))
