"""Every sample, as `ecgw point watch` showed it, against what the cloud keeps: recomputed here, not by the agent's code."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

BATCH_ITEMS = 512


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one point; `t_ms` is epoch ms."""

    point: str
    t_ms: int
    value: float
    quality: str


def read_tape(log: Path) -> list[Sample]:
    """What was recorded. The first value of each point is the latest of before, so it may stand twice: once is kept."""
    found: dict[tuple[str, int], Sample] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("{") and line.endswith("}"):
            body = json.loads(line)
            sample = Sample(str(body["p"]), int(body["t"]), float(body["v"]), str(body.get("q", "good")))
            found.setdefault((sample.point, sample.t_ms), sample)
    return sorted(found.values(), key=lambda sample: sample.t_ms)


def as_json(samples: Iterable[Sample]) -> int:
    """Bytes of all samples as JSON, in the same batches as the gateway would send."""
    return sum(len(batch) for batch in _batches(samples))


def as_zstd(samples: Iterable[Sample]) -> int:
    """Bytes of the same batches, each compressed with zstd."""
    packer = zstandard.ZstdCompressor(level=3)
    return sum(len(packer.compress(batch)) for batch in _batches(samples))


def disagreements(windows: Sequence[Mapping[str, Any]], samples: Sequence[Sample]) -> list[str]:
    """Aggregates that are not what the samples of their window say, in words."""
    wrong: list[str] = []
    for window in windows:
        inside = [s.value for s in samples if s.point == window["p"] and window["t0"] <= s.t_ms < window["t1"]]
        if not inside:
            wrong.append(f"{window['p']} at {window['t0']}: no sample")
            continue
        expected = {
            "n": len(inside), "min": min(inside), "max": max(inside), "mean": math.fsum(inside) / len(inside),
            "first": inside[0], "last": inside[-1],
        }  # fmt: skip
        off = [
            key for key, value in expected.items() if not math.isclose(window[key], value, rel_tol=1e-6, abs_tol=1e-9)
        ]
        if off:
            wrong.append(
                f"{window['p']} at {window['t0']}: {', '.join(f'{k} {window[k]} is {expected[k]}' for k in off)}"
            )
    return wrong


def largest_error(kept: Sequence[tuple[int, float]], samples: Sequence[Sample]) -> float:
    """How far the last kept value was ever from the true one; both in time order, from the first kept value on."""
    worst, held, index = 0.0, math.nan, 0
    for sample in samples:
        while index < len(kept) and kept[index][0] <= sample.t_ms:
            held = kept[index][1]
            index += 1
        if not math.isnan(held):
            worst = max(worst, abs(sample.value - held))
    return worst


def _batches(samples: Iterable[Sample]) -> list[bytes]:
    items = [{"p": s.point, "t": s.t_ms, "v": s.value, "q": s.quality} for s in samples]
    return [
        json.dumps({"items": items[at : at + BATCH_ITEMS]}, separators=(",", ":")).encode()
        for at in range(0, len(items), BATCH_ITEMS)
    ]
