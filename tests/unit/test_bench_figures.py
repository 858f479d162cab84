"""What `make bench` writes: the names and budgets of the documentation, and nothing met that was missed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.bench.figures import BUDGETS, figure, make_table, write_figures

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PROMISED = {
    "deploy.overhead_ratio": 1.10,
    "agent.rss_mib": 60.0,
    "agent.cpu_idle_percent": 0.5,
    "agent.ready_ms": None,
    "rule.latency_p50_ms": 0.3,
    "rule.latency_p99_ms": 2.0,
    "ingest.samples_per_s": 200_000.0,
    "deploy.pull_overhead_ratio": None,
    "compose.ratio": None,
    "restart.detect_ms": None,
    "reconcile.ms_at_200_apps_one_change": None,
    "agent.rss_mib_at_200_apps": None,
    "agent.cpu_idle_percent_at_200_apps": None,
    "upgrade.downtime_ms_stop_first": None,
    "upgrade.downtime_ms_start_first": None,
}
"""The architecture's budgets, which are not moved to be met, and what else has been promised to be measured."""


def test_every_promised_figure_is_measured_and_its_budget_has_not_moved() -> None:
    limits = {name: budget.limit if budget else None for name, budget in BUDGETS.items()}
    assert {name: limits[name] for name in PROMISED} == PROMISED


def test_the_documentation_lists_the_same_figures_with_the_same_budgets() -> None:
    rows = re.findall(r"^\| `([a-z0-9._]+)` \| ([^|]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(rows) == {name: budget.describe() if budget else "-" for name, budget in BUDGETS.items()}


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("agent.rss_mib", 60.0, "met"),
        ("agent.rss_mib", 75.0, "missed by 25 %"),
        ("ingest.samples_per_s", 200_000.0, "met"),
        ("ingest.samples_per_s", 150_000.0, "missed by 25 %"),
        ("agent.ready_ms", 5_000.0, ""),
    ],
)
def test_a_budget_is_met_at_its_limit_and_missed_beyond_it_on_the_wrong_side(
    name: str, value: float, verdict: str
) -> None:
    assert figure(name, value, "unit").verdict() == verdict


def test_the_list_for_machines_has_each_figures_name_value_unit_budget_and_baseline(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    write_figures([figure("rule.latency_p99_ms", 1.23456, "ms", 3.5), figure("deploy.bare_ms", 300, "ms")], path)
    assert json.loads(path.read_text()) == [
        {"name": "deploy.bare_ms", "value": 300, "unit": "ms", "budget": None, "baseline": None},
        {"name": "rule.latency_p99_ms", "value": 1.235, "unit": "ms", "budget": 2.0, "baseline": 3.5},
    ]


def test_where_several_programs_could_be_the_baseline_table_and_list_name_it(tmp_path: Path) -> None:
    measured = [figure("compose.ratio", 0.5, "x", 1.0, by="Compose 1.29.2")]
    write_figures(measured, tmp_path / "bench.json")
    assert make_table(measured).splitlines()[1].split()[-3:] == ["1", "Compose", "1.29.2"]
    assert json.loads((tmp_path / "bench.json").read_text())[0]["by"] == "Compose 1.29.2"


def test_the_table_says_what_was_missed_and_by_how_much() -> None:
    lines = make_table([figure("rule.latency_p50_ms", 0.45, "ms", 0.25)]).splitlines()
    assert lines[1].split() == ["rule.latency_p50_ms", "0.45", "ms", "<=", "0.3", "missed", "by", "50", "%", "0.25"]


def test_a_value_just_over_its_limit_is_never_said_to_be_missed_by_nothing() -> None:
    assert figure("agent.rss_mib", 60.1, "MiB").verdict() == "missed by 0.17 %"
