"""How an error reads: the message, the mistakes with their positions one a line, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli.words import clean, plain
from agent.errors import GatewayError

HIDDEN = frozenset({"problems", "job", "status", "code", "title", "hint"})


def error_lines(error: GatewayError) -> Iterator[str]:
    """The lines to print, most important first."""
    yield f"ecgw: {clean(error.message)}"
    problems = error.fields.get("problems")
    for problem in problems if isinstance(problems, list | tuple) else ():
        yield "  " + clean(position_line(problem))
    for key, value in error.fields.items():
        if key not in HIDDEN and value not in (None, "", [], {}):
            yield f"  {clean(str(key))}: {clean(plain(value))}"
    if error.hint:
        yield f"  hint: {clean(error.hint)}"


def position_line(problem: Any) -> str:
    """`file:line:col: what is wrong; what is allowed` from a `Problem`, its wire form, or a plain text."""
    if not isinstance(problem, Mapping):
        return str(problem)
    where = ":".join(str(problem[key]) for key in ("file", "line", "col") if problem.get(key) not in (None, ""))
    text = str(problem.get("message", ""))
    if problem.get("hint"):
        text = f"{text}; {problem['hint']}"
    return f"{where}: {text}" if where else text
