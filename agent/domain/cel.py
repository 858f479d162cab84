"""The CEL engine, by its extension module alone: the package's own `__init__` loads a command line (12 MiB, 0.3 s)."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from agent.errors import Failed


class Program(Protocol):
    """A compiled expression. `execute` raises RuntimeError, TypeError or ValueError for what cannot be evaluated."""

    def execute(self, variables: Mapping[str, Any]) -> Any: ...


def compile_cel(text: str) -> Program:
    """Compile once, execute often. Raises ValueError or RuntimeError with the engine's own words."""
    return cast("Program", _engine().compile(text))


def _find() -> Path:
    package = importlib.util.find_spec("cel")
    folders = list(package.submodule_search_locations or ()) if package else []
    for folder, suffix in itertools.product(folders, importlib.machinery.EXTENSION_SUFFIXES):
        path = Path(folder) / f"cel{suffix}"
        if path.exists():
            return path
    raise Failed("rule.no_cel", "the package common-expression-language is not installed", hint="reinstall the agent")


# At import, because looking through folders later would block the loop.
_WHERE = _find()


@cache
def _engine() -> Any:
    """Loaded with the first rule or pattern: 3 MiB that a gateway without any does without. Takes some 10 ms, once."""
    loader = importlib.machinery.ExtensionFileLoader("cel.cel", str(_WHERE))
    spec = importlib.util.spec_from_file_location("cel.cel", _WHERE, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
