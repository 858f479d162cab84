"""The names that people pulled images by, on disk."""

from __future__ import annotations

from pathlib import Path

from agent.registry.kept import Kept

ONE, OTHER = ("sha256:" + digit * 64 for digit in "12")


def test_names_that_lead_elsewhere_by_now_stay_and_the_last_takes_its_file_with_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "manifests")
    kept.keep_name("pump:1", ONE)
    kept.keep_name("pump:2", OTHER)
    kept.forget_names({"pump:1": ONE, "pump:2": ONE})
    assert kept.names() == {"pump:2": OTHER}
    kept.forget_names({"pump:2": OTHER})
    assert list((tmp_path / "manifests").iterdir()) == []
    kept.forget_names({"pump:2": OTHER})
    kept.keep_name("pump:1", ONE)
    assert Kept(tmp_path / "manifests").names() == {"pump:1": ONE}
