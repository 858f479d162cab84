"""`${X}` in a manifest: filled in from parameters only, before anything is read by type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.document import Document, Path, did_you_mean
from agent.domain.manifest_findings import Findings

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<op>:?-)(?P<default>[^{}$]*))?\}"
    r"|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))?"
)
FILLED_BRANCHES: tuple[Path, ...] = (
    ("services",),
    ("volumes",),
    ("networks",),
    ("configs",),
    ("secrets",),
    ("x-ec", "permissions"),
    ("x-ec", "ports"),
    ("x-ec", "update"),
)
"""The parts of a manifest in which `${...}` is filled in; elsewhere text stands as it is."""

MAX_FILLED_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Environment:
    """What `${...}` may name: `values` as text, and the names in `open` whose value is only an example so far."""

    values: Mapping[str, str]
    open: frozenset[str] = frozenset()


def fill(document: Document, environment: Environment, findings: Findings) -> tuple[Any, set[Path], set[Path]]:
    """The document's data with every reference filled in, the paths that were, and those filled with examples."""
    filler = _Filler(environment, findings)
    data = document.data
    for branch in FILLED_BRANCHES:
        data = _replace(data, branch, (), filler)
    return data, filler.filled, filler.pending


def _replace(data: Any, branch: Path, path: Path, filler: _Filler) -> Any:
    if not branch:
        return filler.walk(data, path)
    step = branch[0]
    if not isinstance(data, dict) or step not in data:
        return data
    return {**data, step: _replace(data[step], branch[1:], (*path, step), filler)}


class _Filler:
    def __init__(self, environment: Environment, findings: Findings) -> None:
        self.filled: set[Path] = set()
        self.pending: set[Path] = set()
        self._environment = environment
        self._findings = findings
        self._chars = 0

    def walk(self, data: Any, path: Path) -> Any:
        if isinstance(data, dict):
            return {key: self.walk(value, (*path, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.walk(value, (*path, index)) for index, value in enumerate(data)]
        if isinstance(data, str) and "$" in data:
            return self._text(data, path)
        return data

    def _text(self, text: str, path: Path) -> str:
        def one(match: re.Match[str]) -> str:
            if match["dollar"]:
                return "$"
            name = match["name"] or match["bare"]
            if name is None:
                self._findings.say(
                    path, "manifest.interpolation", f"'{text[match.start() :][:20]}' is no reference", _HOW
                )
                return ""
            return self._value(name, match["op"], match["default"] or "", path)

        filled = _REFERENCE.sub(one, text)
        self._chars += len(filled)
        if self._chars > MAX_FILLED_CHARS:
            self._findings.say(path, "manifest.too_long", "the values fill in too much text", "use shorter values")
            return ""
        self.filled.add(path)
        return filled

    def _value(self, name: str, op: str | None, default: str, path: Path) -> str:
        value = self._environment.values.get(name)
        if name in self._environment.open:
            self.pending.add(path)
        if value is None:
            if op is not None:
                return default
            near = did_you_mean(name, self._environment.values) if self._environment.values else ""
            hint = f"declare it under x-ec.parameters, or write '$$' for a dollar sign; {near}"
            self._findings.say(path, "manifest.undeclared", f"${{{name}}} is not a declared parameter", hint)
            return ""
        return default if op == ":-" and not value else value


_HOW = "write ${NAME}, ${NAME:-default}, or '$$' for a dollar sign"
