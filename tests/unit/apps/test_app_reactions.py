"""What the plant's log says about reaction times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.lab.reactions import percentile, read_reactions


def log_of(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "plant.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_a_reaction_is_a_crossing_that_was_read_and_then_answered(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        {"ns": 0, "event": "write", "register": "valve", "before": 100, "after": 50},
        {"ns": 1_000_000, "event": "cross", "way": "above"},
        {"ns": 2_000_000, "event": "write", "register": "valve", "before": 50, "after": 40},
        {"ns": 3_000_000, "event": "served", "way": "above"},
        {"ns": 4_000_000, "event": "write", "register": "force", "before": 0, "after": 1},
        {"ns": 5_500_000, "event": "write", "register": "valve", "before": 40, "after": 0},
        {"ns": 6_000_000, "event": "write", "register": "valve", "before": 0, "after": 0},
    )
    (reaction,) = read_reactions(log)
    assert (reaction.way, reaction.from_change_ms, reaction.from_read_ms) == ("above", 4.5, 2.5)


def test_a_crossing_that_went_back_unseen_is_no_reaction(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        {"ns": 1, "event": "cross", "way": "above"},
        {"ns": 2, "event": "cross", "way": "below"},
        {"ns": 3, "event": "served", "way": "below"},
        {"ns": 4, "event": "write", "register": "valve", "before": 0, "after": 100},
    )
    assert [reaction.way for reaction in read_reactions(log)] == ["below"]


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (99, 99), (100, 100)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == value
    assert percentile([7.0], percent) == 7.0
