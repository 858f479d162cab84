"""The watch: changes are noticed once, after they stand still, and never handed on half written."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from agent.files.watch import Changes, Watcher
from tests.unit.files.parts import write


class Hand:
    """A monotonic clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def watcher(root: Path) -> tuple[Watcher, Hand]:
    hand = Hand()
    watch = Watcher(root, settle_s=0.5, monotonic=hand)
    watch.begin()
    return watch, hand


def settle(watch: Watcher, hand: Hand) -> Changes | None:
    """Look, wait until all stands still, look again."""
    first = watch.look()
    assert first is None
    hand.now_s += 0.6
    return watch.look()


def test_the_first_report_is_everything_that_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"gateway.yaml": "", "devices.d/a.yaml": "", "conf.d/b.yaml": "", "devices.d/.x": ""})
    first = Watcher(tmp_path).begin()
    assert first.first
    assert first.paths == {
        "settings": {tmp_path / "gateway.yaml", tmp_path / "conf.d/b.yaml"},
        "devices": {tmp_path / "devices.d/a.yaml"},
    }


def test_a_change_is_reported_once_and_only_after_it_stands_still(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"rules.d/r.yaml": "a"}))
    write(tmp_path, {"rules.d/r.yaml": "ab"})
    assert watch.look() is None
    hand.now_s += 0.3
    write(tmp_path, {"rules.d/r.yaml": "abc"})
    assert watch.look() is None
    hand.now_s += 0.4
    assert watch.look() is None
    hand.now_s += 0.2
    found = watch.look()
    assert found is not None
    assert found.paths == {"rules": {tmp_path / "rules.d/r.yaml"}}
    assert watch.look() is None


def test_new_and_deleted_files_are_changes(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"devices.d/a.yaml": "a", "devices.d/b.yaml": "b"}))
    write(tmp_path, {"devices.d/c.csv": "c"})
    (tmp_path / "devices.d/a.yaml").unlink()
    found = settle(watch, hand)
    assert found is not None
    assert found.paths == {"devices": {tmp_path / "devices.d/a.yaml", tmp_path / "devices.d/c.csv"}}
    assert found.missing == frozenset()


def test_a_touch_or_a_rewrite_with_the_same_bytes_is_no_change(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"devices.d/a.yaml": "a"}))
    os.utime(tmp_path / "devices.d/a.yaml", (1, 1))
    assert settle(watch, hand) is None
    new = tmp_path / "devices.d/.new"
    new.write_text("a")
    new.replace(tmp_path / "devices.d/a.yaml")
    assert settle(watch, hand) is None


def test_a_file_that_is_replaced_by_an_editor_is_one_change_not_a_removal(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"devices.d/a.yaml": "a"}))
    (tmp_path / "devices.d/a.yaml").unlink()
    assert watch.look() is None
    hand.now_s += 0.2
    write(tmp_path, {"devices.d/a.yaml": "b", "devices.d/a.yaml~": "a", "devices.d/.a.yaml.swp": "x"})
    found = settle(watch, hand)
    assert found is not None
    assert found.paths == {"devices": {tmp_path / "devices.d/a.yaml"}}
    assert found.missing == frozenset()


def test_a_folder_that_vanishes_or_loses_its_last_file_is_reported_as_such_once(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"devices.d/a.yaml": "a", "rules.d/r.yaml": "r"}))
    shutil.rmtree(tmp_path / "devices.d")
    (tmp_path / "rules.d/r.yaml").unlink()
    found = settle(watch, hand)
    assert found is not None
    assert found.missing == {"devices", "rules"}
    assert found.kinds == {"devices", "rules"}
    assert watch.look() is None


def test_a_file_in_an_instances_folder_is_a_change_of_the_instance(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"apps.d/m/app.yaml": "a", "apps.d/m/deep/x": "1"}))
    write(tmp_path, {"apps.d/m/deep/x": "22"})
    found = settle(watch, hand)
    assert found is not None
    assert found.paths == {"apps": {tmp_path / "apps.d/m"}}


def test_what_does_not_stand_still_yet_is_named_beside_what_does(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"devices.d/a.yaml": "a", "devices.d/b.yaml": "b"}))
    write(tmp_path, {"devices.d/a.yaml": "aa"})
    assert watch.look() is None
    hand.now_s += 0.6
    write(tmp_path, {"devices.d/b.yaml": "half"})
    found = watch.look()
    assert found is not None
    assert found.paths == {"devices": {tmp_path / "devices.d/a.yaml"}}
    assert found.unsettled == {tmp_path / "devices.d/b.yaml"}


def test_links_in_a_circle_and_unreadable_things_do_not_end_the_watch(tmp_path: Path) -> None:
    watch, hand = watcher(write(tmp_path, {"devices.d/a.yaml": "a"}))
    (tmp_path / "devices.d/loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "devices.d/pipe.yaml")
    (tmp_path / "rules.d").symlink_to("rules.d")
    found = settle(watch, hand)
    assert found is not None
    assert found.paths["devices"] == {tmp_path / "devices.d/loop.yaml", tmp_path / "devices.d/pipe.yaml"}
    assert watch.look() is None


async def test_changes_come_from_a_thread_within_a_bounded_time(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/a.yaml": "a"})
    changes = Watcher(tmp_path, every_s=0.02, settle_s=0.02).changes()
    async with asyncio.timeout(10):
        assert (await anext(changes)).first
        write(tmp_path, {"devices.d/a.yaml": "ab"})
        assert (await anext(changes)).paths == {"devices": {tmp_path / "devices.d/a.yaml"}}
    await changes.aclose()
