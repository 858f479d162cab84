"""How an error reads: the message, the mistakes with their positions one a line, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli.words import clean, plain
from agent.errors import GatewayError

LISTS = ("problems", "mistakes")
HIDDEN = frozenset({*LISTS, "job", "status", "code", "title", "hint", "type", "field"})


def error_lines(error: GatewayError) -> Iterator[str]:
    """The lines to print, most important first."""
    listed = [item for key in LISTS for item in _items(error.fields.get(key))]
    first = listed[0] if listed and isinstance(listed[0], Mapping) else {}
    if first.get("message") and str(first["message"]) in error.message:
        yield f"ecgw: {len(listed)} mistake{'s' if len(listed) > 1 else ''}, and nothing was changed"
    else:
        yield f"ecgw: {clean(error.message)}"
    for item in listed:
        yield "  " + clean(position_line(item))
    for key, value in error.fields.items():
        if key not in HIDDEN and value not in (None, "", [], {}):
            yield f"  {clean(str(key))}: {clean(plain(value))}"
    if error.hint and error.hint != first.get("hint"):
        yield f"  hint: {clean(error.hint)}"


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def position_line(problem: Any) -> str:
    """`file:line:col: what is wrong; what is allowed` from a `Problem`, its wire form, or a plain text."""
    if not isinstance(problem, Mapping):
        return str(problem)
    where = ":".join(
        str(problem[key]) for key in ("file", "line", "col", "field") if problem.get(key) not in (None, "", 0)
    )
    text = str(problem.get("message", ""))
    if problem.get("hint"):
        text = f"{text}; {problem['hint']}"
    return f"{where}: {text}" if where else text
