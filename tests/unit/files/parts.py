"""What the tests of site files share: folders written in one line, and mistakes as the words a technician reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.domain.document import Mistakes
from agent.files.devices import read_devices
from agent.files.effect import Effect
from agent.files.points import read_points
from agent.files.rules import read_rules
from agent.files.yaml import read_document

READERS = {"devices": read_devices, "points": read_points, "rules": read_rules}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below `root`, making folders on the way."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read(kind: str, text: str) -> Effect:
    """The effect of a text of a kind, as if it were in ``f.yaml``."""
    return READERS[kind](read_document(text, "f.yaml"))


def mistakes(kind: str, text: str) -> list[str]:
    """The mistakes of a text as lines; empty when there is none."""
    try:
        read(kind, text)
    except Mistakes as found:
        return [str(problem) for problem in found.problems]
    return []


def codes(kind: str, text: str) -> list[str]:
    """The codes of a text's mistakes."""
    try:
        read(kind, text)
    except Mistakes as found:
        return [problem.code for problem in found.problems]
    return []
