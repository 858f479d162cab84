"""The tests themselves: each says in its own body what must be so, and none is left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
LEFT_OUT = {"skip", "skipif", "importorskip", "xfail"}


def each_test(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def promises(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it asserts by itself, or expects an error. A helper that waits and asserts is not seen by who reads the test."""
    return any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.withitem) and "raises(" in ast.unparse(node))
        for node in ast.walk(test)
    )


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(TESTS.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_every_test_states_its_promise_in_its_own_body() -> None:
    empty = [
        f"{path.relative_to(TESTS)}:{t.lineno}" for path, tree in trees() for t in each_test(tree) if not promises(t)
    ]
    assert empty == []


def test_no_test_is_left_out() -> None:
    """What cannot run on a machine fails there and says what is missing; a skip would pass for a proof."""
    left_out = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in LEFT_OUT and ast.unparse(node).startswith("pytest.")
    ]
    assert left_out == []
