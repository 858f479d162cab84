"""Documents of images and the names that people pulled them by, on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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


def test_jobs_that_bring_the_same_document_at_once_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "manifests")
    body = b"x" * 5000
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            (digest,) = set(pool.map(kept.keep, [body] * 8))
            assert kept.read(digest) == body
            kept.forget([digest])
    assert list((tmp_path / "manifests").iterdir()) == []
