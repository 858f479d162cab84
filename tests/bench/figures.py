"""The figures, their budgets, the table for people and the list for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Budget:
    """`at_most`: the value shall not be above `limit`; `at_least`: not below."""

    limit: float
    sense: Literal["at_most", "at_least"] = "at_most"

    def describe(self) -> str:
        """``<= 60``, as the table in docs/benchmarks.md says it."""
        return f"{'<=' if self.sense == 'at_most' else '>='} {self.limit:,g}"


BUDGETS: dict[str, Budget | None] = {
    "deploy.overhead_ratio": Budget(1.10),
    "deploy.agent_ms": None,
    "deploy.bare_ms": None,
    "deploy.pull_overhead_ratio": None,
    "deploy.pull_agent_ms": None,
    "deploy.pull_engine_ms": None,
    "compose.ratio": None,
    "compose.agent_ms": None,
    "agent.rss_mib": Budget(60.0),
    "agent.pss_mib": None,
    "agent.cpu_idle_percent": Budget(0.5),
    "agent.ready_ms": None,
    "reconcile.ms_at_200_apps_one_change": None,
    "reconcile.ms_one_change_alone": None,
    "agent.rss_mib_at_200_apps": None,
    "agent.cpu_idle_percent_at_200_apps": None,
    "agent.ready_ms_at_200_apps": None,
    "deploy.s_for_200_apps": None,
    "upgrade.downtime_ms_stop_first": None,
    "upgrade.downtime_ms_start_first": None,
    "restart.detect_ms": None,
    "restart.back_ms": None,
    "rule.latency_p50_ms": Budget(0.3),
    "rule.latency_p99_ms": Budget(2.0),
    "rule.inside_p50_ms": None,
    "rule.inside_p99_ms": None,
    "ingest.samples_per_s": Budget(200_000.0, "at_least"),
}
"""Every figure that `make bench` writes. Budgets are the architecture's; they are not moved to be met."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement.

    `baseline`: the same thing done without this software, in the same run; None where there is none. `by`: the program and
    its version that the baseline is of, where more than one would do.
    """

    name: str
    value: float
    unit: str
    budget: float | None
    baseline: float | None
    by: str = ""

    def verdict(self) -> str:
        """Met, or missed by how much."""
        budget = BUDGETS[self.name]
        if budget is None:
            return ""
        met = self.value <= budget.limit if budget.sense == "at_most" else self.value >= budget.limit
        if met:
            return "met"
        percent = abs(self.value / budget.limit - 1) * 100
        return f"missed by {percent:.0f} %" if percent >= 10 else f"missed by {percent:.2g} %"


def figure(name: str, value: float, unit: str, baseline: float | None = None, by: str = "") -> Figure:
    """A figure with the budget of its name."""
    budget = BUDGETS[name]
    known = None if baseline is None else _rounded(baseline)
    return Figure(name, _rounded(value), unit, budget.limit if budget else None, known, by)


def write_figures(figures: Sequence[Figure], path: Path) -> None:
    """The list for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{key: value for key, value in asdict(each).items() if value != ""} for each in _in_order(figures)]
    path.write_text(json.dumps(listed, indent=1) + "\n")


def make_table(figures: Sequence[Figure]) -> str:
    """The table for people, in the order of `BUDGETS`."""
    figures = _in_order(figures)
    rows = [("figure", "value", "unit", "budget", "", "baseline", "")]
    for each in figures:
        budget = BUDGETS[each.name]
        rows.append(
            (
                each.name,
                _shown(each.value),
                each.unit,
                budget.describe() if budget else "-",
                each.verdict(),
                "-" if each.baseline is None else _shown(each.baseline),
                each.by,
            )
        )
    wide = [max(len(row[column]) for row in rows) for column in range(7)]
    right = {1, 3, 5}
    return "\n".join(
        "  ".join(f"{cell:>{w}}" if n in right else f"{cell:<{w}}" for n, (cell, w) in enumerate(zip(row, wide, strict=True)))
        .rstrip()
        for row in rows
    )  # fmt: skip


def _in_order(figures: Sequence[Figure]) -> list[Figure]:
    order = list(BUDGETS)
    return sorted(figures, key=lambda each: order.index(each.name))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
