"""The failpoint strikes exactly where it says, and one that is misspelt is an error, not a fault test that passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.journal import Change
from agent.errors import Malformed
from agent.failpoints import VARIABLE, FailingJournal, parse_failpoint, with_failpoint
from agent.store.state import StateStore


class Dead(Exception):
    """In the place of SIGKILL."""


def die() -> None:
    raise Dead


@pytest.mark.parametrize("text", ["", "step", "step:0", "step:x:before", "step:1:during", "commit:-1", "engine:1", "@"])
def test_what_is_no_failpoint_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_failpoint(text)


async def run_steps(journal: FailingJournal, store: StateStore, count: int) -> list[tuple[str, str]]:
    """Journal steps until death; the entries on disk, with what became of each."""
    try:
        for number in range(1, count + 1):
            begun = await journal.begin_step("pump", f"step {number}", number)
            await journal.end_step(begun, "done")
            await journal.commit(Change(meta=((f"c{number}", "1"),)), number)
    except Dead:
        pass
    found = [(step.step, step.ended) for step in await store.steps("pump", 0, 100)]
    found += [(name, "commit") for name in sorted((await store.load()).meta) if name in ("c1", "c2")]
    await store.close()
    return found


@pytest.mark.parametrize(
    ("setting", "on_disk"),
    [
        ("step:2:before", [("step 1", "done"), ("step 2", ""), ("c1", "commit")]),
        ("step:2:after", [("step 1", "done"), ("step 2", ""), ("c1", "commit")]),
        ("commit:1", [("step 1", "done")]),
        ("commit:1:after", [("step 1", "done"), ("c1", "commit")]),
    ],
)
async def test_it_dies_on_the_side_that_was_named(tmp_path: Path, setting: str, on_disk: list[tuple[str, str]]) -> None:
    store = StateStore(tmp_path / "state.db")
    await store.open()
    assert await run_steps(FailingJournal(store, setting, die), store, 5) == on_disk


@pytest.mark.may_block  # the file is read in the loop: only fault tests have one, and it must be read at that very moment
async def test_a_running_agent_is_armed_by_a_file_and_counts_from_then_on(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    await store.open()
    order = tmp_path / "failpoint"
    journal = FailingJournal(store, f"@{order}", die)
    for number in (1, 2, 3):
        await journal.end_step(await journal.begin_step("pump", "early", number), "done")
    order.write_text("step:1:after")
    begun = await journal.begin_step("pump", "late", 4)
    with pytest.raises(Dead):
        await journal.end_step(begun, "done")
    order.unlink()
    await journal.end_step(await journal.begin_step("pump", "disarmed", 5), "done")
    await store.close()


async def test_without_the_variable_nothing_stands_before_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(tmp_path / "state.db")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert with_failpoint(store) is store
    monkeypatch.setenv(VARIABLE, "commit:1")
    assert isinstance(with_failpoint(store), FailingJournal)
