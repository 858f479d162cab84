"""One thing against another in the same run: pairs, interleaved in changing order, because the machine's own time drifts."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Pairs:
    """The median of the pairs' ratios, and both medians in ms."""

    ratio: float
    ours_ms: float
    theirs_ms: float


def measure_pairs(count: int, ours: Callable[[int], float], theirs: Callable[[int], float]) -> Pairs:
    """Each is called with the pair's number and gives ms. The first pair warms up and does not count."""
    taken: dict[Callable[[int], float], list[float]] = {ours: [], theirs: []}
    for number in range(count + WARM_UP):
        for measure in (theirs, ours) if number % 2 else (ours, theirs):
            taken[measure].append(measure(number))
    ours_ms, theirs_ms = taken[ours][WARM_UP:], taken[theirs][WARM_UP:]
    ratios = [a / b for a, b in zip(ours_ms, theirs_ms, strict=True)]
    return Pairs(statistics.median(ratios), statistics.median(ours_ms), statistics.median(theirs_ms))
