"""State written by earlier agents: nothing of it is lost when a newer agent opens the file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from agent.domain.app import Desired, Layer, Version
from agent.store.rows import MIGRATIONS
from agent.store.state import StateStore

OLD = {"name": "pump", "owner": "cloud", "wanted": "running", "trial": "proven", "hold": "", "job": "", "folder": ""}


def version(release: str) -> dict[str, object]:
    layer = {"values": {"LIMIT": 5, "é": 'a"b'}, "config": None, "ports": {}}
    return {"release": release, "cloud": layer, "site": {"values": {}, "config": {"a": [1]}, "ports": {}}}


async def load(path: Path, *rows: dict[str, object]) -> dict[str, Desired]:
    """Write rows as the first format had them, and open the file with the agent of today."""
    with sqlite3.connect(path) as old:
        old.executescript(MIGRATIONS[0])
        for row in rows:
            body = json.dumps(row, ensure_ascii=False).encode()
            old.execute("INSERT INTO desired VALUES(?,?)", (row["name"], body))
        old.execute("PRAGMA user_version=1")
    old.close()
    store = StateStore(path)
    await store.open()
    found = {d.name: d for d in (await store.load()).desired}
    await store.close()
    return found


async def test_the_version_to_go_back_to_of_an_older_agent_becomes_the_newest_of_the_history(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {**OLD, "current": version("b" * 64), "previous": version("a" * 64)},
        {**OLD, "name": "first", "current": version("b" * 64), "previous": None},
        {**OLD, "name": "fetching", "current": None},
    ]
    found = await load(tmp_path / "state.db", *rows)
    layers = (Layer(values={"LIMIT": 5, "é": 'a"b'}), Layer(config={"a": [1]}))
    assert found["pump"].history == (Version("a" * 64, *layers),)
    assert found["pump"].current == Version("b" * 64, *layers)
    assert (found["first"].history, found["fetching"].versions) == ((), ())


async def test_the_folder_of_an_older_agents_instance_becomes_its_versions(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {**OLD, "folder": "/apps/a", "current": version("b" * 64), "previous": version("a" * 64)},
        {**OLD, "folder": "/apps/b", "name": "first", "current": version("b" * 64), "previous": None},
        {**OLD, "folder": "/apps/c", "name": "fetching", "current": None},
        {**OLD, "name": "none", "current": version("b" * 64), "previous": version("a" * 64)},
    ]
    found = await load(tmp_path / "state.db", *rows)
    assert [each.folder for each in found["pump"].versions] == ["/apps/a", "/apps/a"]
    assert [each.folder for each in found["first"].versions] == ["/apps/b"]
    assert found["fetching"].versions == ()
    assert [each.folder for each in found["none"].versions] == ["", ""]
