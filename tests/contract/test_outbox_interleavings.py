"""Any interleaving of append, head, forget and a crash keeps the order of every stream and loses nothing."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.priority import Priority
from agent.ports import OutRecord, Stored
from agent.store.outbox import SqliteOutbox

priorities = st.sampled_from(list(Priority))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(priorities, min_size=1, max_size=4), st.sampled_from(["live", "hist"])),
        st.tuples(st.just("forget"), st.integers(1, 5), st.integers(0, 31)),
        st.tuples(st.just("crash")),
    ),
    max_size=25,
)


async def play(folder: Path, script: list[tuple[Any, ...]]) -> tuple[dict[str, tuple[Priority, str]], list[Stored]]:
    """Play it on a store; gives what must be in it, by payload, and what is."""
    names = (folder / f"outbox-{number}.db" for number in itertools.count())
    path = next(names)
    store = SqliteOutbox(path, 10_000_000)
    await store.open()
    notes = itertools.count()
    expected: dict[str, tuple[Priority, str]] = {}
    for operation in script:
        if operation[0] == "append":
            fresh = {str(next(notes)): (priority, operation[2]) for priority in operation[1]}
            await store.append([OutRecord(p, "event", n.encode()) for n, (p, _) in fresh.items()], operation[2], 1)
            expected |= fresh
        elif operation[0] == "forget":
            head = await store.head(operation[1])
            chosen = [each for index, each in enumerate(head) if operation[2] >> index & 1]
            await store.forget([each.row for each in chosen])
            for each in chosen:
                del expected[each.payload.decode()]
        else:
            # What a kill leaves: the files as they are, with what only the log holds.
            path = crash(path, next(names))
            await store.close()
            store = SqliteOutbox(path, 10_000_000)
            await store.open()
    stored = await store.head(10_000)
    await store.close()
    return expected, stored


def crash(path: Path, to: Path) -> Path:
    for suffix in ("", "-wal"):
        if (source := path.with_name(path.name + suffix)).exists():
            shutil.copy(source, to.with_name(to.name + suffix))
    return to


@settings(max_examples=40)
@given(operations)
def test_any_interleaving_keeps_order_and_loses_nothing(script: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected, stored = asyncio.run(play(Path(folder), script))
    assert {each.payload.decode(): (each.priority, each.stream) for each in stored} == expected
    order = [(list(Priority).index(each.priority), int(each.payload)) for each in stored]
    assert order == sorted(order), "critical first, then by age"
    keys = [(each.session, each.priority, each.stream, each.seq) for each in stored]
    assert len(set(keys)) == len(keys)
