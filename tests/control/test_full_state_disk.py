"""The disk that holds the gateway's own state is full at a bad moment: what was decided follows once there is room."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.control.ledger import Journal
from agent.control.site import AGAIN_S
from agent.domain.command import JobState
from agent.domain.journal import Change, StoredRule
from agent.domain.transition import REASON
from agent.errors import Failed, NoSpace
from tests.control.rig import REGISTRY, Rig, manifest, running

RULES = "rules: {guard: {inputs: {p: b/p}, when: p.value > LIMIT, then: [{alarm: {code: high, severity: major}}]}}\n"

FULL = NoSpace("store.full", "no space left to write state.db")


class FullAt:
    """A journal that refuses what `meets` names, so many `times`; `files` times also the site's files."""

    def __init__(self, journal: Journal, meets: Callable[[Change], bool], times: int = 1, files: int = 0) -> None:
        self._journal = journal
        self._meets = meets
        self.left = times
        self.files = files
        self.refused_at: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def commit(self, change: Change, now_ms: int) -> None:
        if self.left and self._meets(change):
            self.left -= 1
            raise FULL
        await self._journal.commit(change, now_ms)

    async def save_site(self, files: Mapping[str, bytes]) -> None:
        if self.files:
            self.files -= 1
            self.refused_at.append(time.monotonic())
            raise FULL
        await self._journal.save_site(files)


def fill(rig: Rig, meets: Callable[[Change], bool], times: int = 1, files: int = 0) -> FullAt:
    full = FullAt(rig.room.ledger.journal, meets, times, files)
    rig.room.ledger.journal = full
    return full


async def test_a_verdict_that_cannot_be_written_is_tried_again_soon(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        rig.engine.fail_next("start", Failed("engine.cannot_execute", "exec format error"), times=2)
        full = fill(rig, lambda change: any(REASON in job.params for job in change.jobs))
        job = await rig.job(await rig.send("app.upgrade", instance="pump", manifest=manifest("2")))
        assert (job.state, full.left) == (JobState.ROLLED_BACK, 0)
        await rig.until(lambda: rig.serving() == ["pump:1"], "the old version")


async def test_a_fetch_goes_on_though_how_far_it_is_cannot_be_written(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        gate = rig.images.faults.pause("pull progress")
        full = fill(rig, lambda change: any(job.total_bytes for job in change.jobs))
        reply = await rig.send("image.pull", image=f"{REGISTRY}/pump:1")
        await rig.until(lambda: full.left == 0, "the refusal")
        gate.open()
        assert (await rig.job(reply)).state is JobState.DONE
        assert [op for op, _ in rig.images.log].count("pull") == 1, "it was begun anew"


async def test_files_hold_that_cannot_be_remembered_yet_and_are_remembered_later(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        full = fill(rig, lambda change: any(key.startswith("file:") for key, _ in change.meta), files=1)
        file = rig.root / "etc/rules.d/a.yaml"
        for name, text in (("rules.d/a.yaml", RULES.replace("LIMIT", "6.5")), ("apps.d/pump.yaml", manifest())):
            (rig.root / "etc" / name).parent.mkdir()
            (rig.root / "etc" / name).write_text(text)
        await rig.room.site.apply()
        assert whens(rig) == ["p.value > 6.5"]
        await rig.until(lambda: (full.files, full.left) == (0, 0), "both refusals")
        await rig.until(lambda: "file:pump" in rig.room.ledger.meta, "its mark")
        assert rig.serving() == ["pump:1"]
        file.write_text("rules: [")
        await rig.restart()
        await rig.room.site.apply()
        assert whens(rig) == ["p.value > 6.5"]


async def test_however_often_files_change_on_a_full_disk_one_try_at_a_time_follows(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        full = fill(rig, lambda _: False, files=1000)
        (rig.root / "etc/rules.d").mkdir()
        (rig.root / "etc/rules.d/a.yaml").write_text(RULES.replace("LIMIT", "6.5"))
        changes = 5
        for _ in range(changes):
            await rig.room.site.apply()
        await rig.until(lambda: len(full.refused_at) >= changes + 2, "two tries that follow")
        first, second = full.refused_at[changes : changes + 2]
        assert second - first > AGAIN_S / 2


async def test_rules_that_cannot_be_read_any_more_keep_no_others_away(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        old = StoredRule("old", "cloud", "rules: [")
        await rig.room.ledger.journal.commit(Change(rules=(old,)), 0)
        await rig.restart()
        (rig.root / "etc/rules.d").mkdir()
        (rig.root / "etc/rules.d/a.yaml").write_text(RULES.replace("LIMIT", "6.5"))
        await rig.room.site.apply()
        assert whens(rig) == ["p.value > 6.5"]
        assert "rules 'old' do not hold: old:1:" in rig.alarms.standing["files/not_applied"].message
        more = RULES.replace("guard", "more").replace("LIMIT", "7")
        assert (await rig.send("rule.apply", name="more", text=more)).code == 200
        assert (await rig.send("rule.remove", name="old")).code == 200
        assert whens(rig) == ["p.value > 6.5", "p.value > 7"]
        assert rig.alarms.standing == {}


async def test_that_a_boot_is_dealt_with_is_written_once_there_is_room(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.job(await rig.send("app.install", instance="pump", manifest=manifest("1")))
        await rig.kill()
        rig.host.boot_id += "x"
        await rig.start()
        full = fill(rig, lambda change: any(key == "boot_id" for key, _ in change.meta))
        await rig.until(lambda: full.left == 0, "the refusal")
        rig.room.reconciler.touch("pump")
        await rig.until(lambda: rig.room.ledger.meta["boot_id"] == rig.host.boot_id, "its mark")
        assert rig.room.reconciler.errors == {}


def whens(rig: Rig) -> list[str]:
    return [rule["when"] for rule in rig.plane.rules.status()]
