"""From the data of a reply to rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.cli.screen import Column, Screen
from agent.cli.verb import Render


def rows_of(data: Any, *, name: str = "name") -> list[Mapping[str, Any]]:
    """A list of rows from a list, or from one mapping that holds only a list, or name -> row."""
    if isinstance(data, Mapping):
        if len(data) == 1:
            only = next(iter(data.values()))
            if isinstance(only, list):
                return rows_of(only, name=name)
        return [{name: key, **row} for key, row in data.items() if isinstance(row, Mapping)]
    if isinstance(data, Sequence) and not isinstance(data, str):
        return [row if isinstance(row, Mapping) else {name: row} for row in data]
    return []


def listing(*columns: Column, empty: str, name: str = "name") -> Render:
    """A renderer of a table. `empty` is what is said where there is nothing; `name` is the key of a mapping's keys."""

    def render(screen: Screen, data: Any) -> None:
        screen.table(rows_of(data, name=name), columns, empty=empty)

    return render


def details(screen: Screen, data: Any) -> None:
    """A renderer of one thing: `key: value` lines."""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if isinstance(data, Mapping):
        screen.pairs(data)
    else:
        screen.line(str(data))
