"""The control group of builds: made with its limit where the engine can use it, else told once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.engine.fence import BuildFence


def test_the_limit_of_v1_stands_under_the_controllers_own_tree_also_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    fence = BuildFence("w-builds", 40, tmp_path)
    assert [fence.put_up("cgroupfs"), fence.put_up("cgroupfs")] == ["/w-builds", "/w-builds"]
    assert (tmp_path / "pids/w-builds/pids.max").read_text() == "40"


def test_the_limit_of_v2_stands_in_the_one_tree_with_the_controller_on(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu pids")
    assert BuildFence("w-builds", 40, tmp_path).put_up("cgroupfs") == "/w-builds"
    assert (tmp_path / "w-builds/pids.max").read_text() == "40"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+pids"


@pytest.mark.parametrize(
    ("driver", "reason"), [("systemd", "driver is systemd"), ("", "driver is not told"), ("cgroupfs", "No such file")]
)
def test_where_there_can_be_no_group_it_is_told_once_and_built_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, driver: str, reason: str
) -> None:
    fence = BuildFence("w-builds", 40, tmp_path)
    with caplog.at_level(logging.WARNING, "agent.engine.fence"):
        assert [fence.put_up(driver), fence.put_up(driver)] == ["", ""]
    (record,) = caplog.records
    assert record.getMessage().startswith("build_pids_unlimited")
    assert reason in record.getMessage()
    assert list(tmp_path.iterdir()) == []
