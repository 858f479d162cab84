"""Step 4: windows and deadband thin what goes up, and what matters goes up at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from deploy.demo.account import Account
from deploy.demo.site import DEADBAND_C, WINDOW_S
from deploy.demo.stage import Stage
from deploy.demo.tape import Sample, as_json, as_zstd, disagreements, largest_error, read_tape
from deploy.demo.wire import Batch, batches
from deploy.lab.series import sea_temperature

WINDOWS = 4
Fits = Callable[[dict[str, Any]], bool]
_URGENT: tuple[tuple[str, str, Fits], ...] = (
    (
        "the rule's alarm",
        "boiler",
        lambda b: (b["type"], b.get("state"), b.get("source")) == ("alarm", "raise", "rule:overpressure"),
    ),
    ("the rule's event", "boiler", lambda b: b["type"] == "event" and b.get("rule") == "overpressure"),
    ("pump-guard's high-value event", "annex", lambda b: b["type"] == "event" and b.get("app") == "pump-guard"),
    (
        "pump-guard's alarm",
        "annex",
        lambda b: (b["type"], b.get("state"), b.get("source")) == ("alarm", "raise", "app:pump-guard"),
    ),
)
"""What, at which device, and how it is told from the rest."""


def show(stage: Stage, account: Account) -> None:
    """Record every sample beside the gateway for some windows; compare."""
    span_ms = _wait_for_windows(stage, account)
    samples = [s for s in read_tape(stage.directory / "tape.jsonl") if span_ms[0] <= s.t_ms < span_ms[1]]
    _check_series(account, samples)
    _compare_aggregates(stage, account, samples, span_ms)
    _compare_bytes(stage, account, samples, span_ms)
    _hurry(stage, account)


def _wait_for_windows(stage: Stage, account: Account) -> tuple[int, int]:
    account.note(f"ecgw point watch records every sample for {WINDOWS} windows of {WINDOW_S} s, as a second consumer")
    tape = stage.agent.watch("#", stage.directory / "tape.jsonl")
    try:
        width_ms = WINDOW_S * 1000
        first = (time.time_ns() // 1_000_000 // width_ms + 1) * width_ms
        span_ms = first, first + WINDOWS * width_ms
        expected = {
            (point, first + n * width_ms) for point in ("boiler/pressure", "annex/pressure") for n in range(WINDOWS)
        }
        account.wait(
            lambda: expected <= {(row["body"]["p"], row["body"].get("t0")) for row in _stored(stage, first)} or None,
            "the cloud's store holds all windows of both pressures", WINDOWS * WINDOW_S + 20, every_s=1.0,
        )  # fmt: skip
    finally:
        tape.end()
    return span_ms


def _check_series(account: Account, samples: Sequence[Sample]) -> None:
    recorded = [60.0 + 2 * celsius for _, celsius in sea_temperature()]
    low, high = min(recorded), max(recorded)
    seen = {round(s.value, 3) for s in samples if s.point == "boiler/temp"}
    known = {round(value, 3) for value in recorded}
    account.check(
        seen and all(low <= value <= high for value in seen) and len(seen & known) > 0.9 * len(seen),
        "the values are those of the recorded series (19,226 sea temperatures), scaled", f"{len(seen)} different ones",
    )  # fmt: skip


def _compare_aggregates(stage: Stage, account: Account, samples: Sequence[Sample], span_ms: tuple[int, int]) -> None:
    rows = [row["body"] for row in _stored(stage, span_ms[0])]
    windows = [row for row in rows if "t0" in row and span_ms[0] <= row["t0"] and row["t1"] <= span_ms[1]]
    wrong = disagreements(windows, samples)
    count = sum(int(window["n"]) for window in windows)
    account.check(
        not wrong, "aggregates in the cloud's store, recomputed from the recording (n, min, max, mean, first, last)",
        "; ".join(wrong[:3]) or f"{len(windows)} windows of {count} samples agree",
    )  # fmt: skip
    kept = sorted((row["t"], float(row["v"])) for row in rows if row["p"] == "boiler/temp" and "t" in row)
    error = largest_error(kept, [s for s in samples if s.point == "boiler/temp"])
    told = sum(span_ms[0] <= t_ms < span_ms[1] for t_ms, _ in kept)
    account.check(
        kept and error <= DEADBAND_C + 1e-6, f"deadband of {DEADBAND_C} degrees on boiler/temp",
        f"{told} of {sum(s.point == 'boiler/temp' for s in samples)} samples went up, never more than {error:.3f} degrees off",
    )  # fmt: skip
    account.figure("windows", len(windows))
    account.figure("deadband_largest_error_c", error)


def _compare_bytes(stage: Stage, account: Account, samples: Sequence[Sample], span_ms: tuple[int, int]) -> None:
    def inside(batch: Batch) -> bool:
        return batch.kind == "data" and any(
            span_ms[0] < int(item.get("t1") or item["t"]) <= span_ms[1] for item in batch.items
        )

    sent = {batch.key: batch for batch in batches(stage.witness.messages()) if inside(batch)}
    up = sum(batch.size for batch in sent.values())
    plain, packed = as_json(samples), as_zstd(samples)
    figures = {
        "samples": len(samples), "messages": len(sent), "sent_bytes": up, "json_bytes": plain, "json_zstd_bytes": packed,
        "json_ratio": round(plain / up, 1), "json_zstd_ratio": round(packed / up, 1),
    }  # fmt: skip
    account.figure("bytes", figures)
    account.check(
        up < packed < plain, "payloads as mosquitto_sub counted them, against every sample",
        f"{len(samples)} samples: {up} bytes up; as JSON {plain} ({plain / up:.0f} x), as JSON + zstd {packed} ({packed / up:.1f} x)",
    )  # fmt: skip


def _hurry(stage: Stage, account: Account) -> None:
    """One surge at each device: who learns of it, and when."""
    offset_s = time.time() - time.monotonic()
    since_ns = time.monotonic_ns()
    stage.annex.surge()
    stage.boiler.surge()
    crossed = {"annex": stage.annex.crossings(since_ns)[0], "boiler": stage.boiler.crossings(since_ns)[0]}
    for name, device, fits in _URGENT:

        def look(device: str = device, fits: Fits = fits) -> Batch | None:
            events = [batch for batch in batches(stage.witness.messages()) if batch.kind == "event"]
            begun_s = offset_s + crossed[device] / 1e9
            return next((event for event in events if event.at >= begun_s and fits(event.items[0])), None)

        seen = account.wait(look, f"mosquitto_sub saw {name}", 10)
        late_ms = (seen.at - offset_s - crossed[device] / 1e9) * 1000
        account.figure(name.replace("'s", "").replace(" ", "_").replace("-", "_") + "_ms", late_ms)
        account.check(
            seen.stream[1] == "critical",
            f"mosquitto_sub saw {name}, critical",
            f"{late_ms:.0f} ms after the pressure passed the limit",
        )
        account.wait(partial(_in_store, stage, fits), f"the cloud's store holds {name}", 10)
    account.check(True, "eccloud events: the cloud's store holds all four")


def _stored(stage: Stage, since_ms: int) -> list[dict[str, Any]]:
    """Rows of the cloud's store from `since_ms` on, and for each point the last one before."""
    rows: list[dict[str, Any]] = stage.cloud.ask("data", stage.gateway, "--limit", "10000")
    before = {row["point"]: row for row in rows if (row["t_ms"] or 0) < since_ms and "t" in row["body"]}
    return [*before.values(), *(row for row in rows if (row["t_ms"] or 0) >= since_ms)]


def _in_store(stage: Stage, fits: Fits) -> bool:
    return any(fits(row["body"]) for row in stage.cloud.ask("events", stage.gateway, "--limit", "10000"))
