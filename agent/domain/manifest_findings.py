"""Reading a document's values by type: each reader returns the value, or None after noting what is wrong and where."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agent.domain.document import Document, Path, Problem, did_you_mean
from agent.domain.manifest_model import Ask

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgKMG]?)(?:i?[bB])?")
_FACTOR = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
MAX_DURATION_S = 30 * 86_400.0
MAX_BYTES = 2**50
MAX_TEXT_CHARS = 32_768
_SAID_ANYWAY = frozenset({"manifest.image_value"})


class Findings:
    """The mistakes found in a document. `filled` are the paths whose text came out of `${...}`.

    Text that was filled in may stand for a number or a truth, as in Compose. `pending` are filled paths whose value
    is a mere example because the site has yet to give it: nothing is said about them.
    """

    def __init__(
        self, document: Document, filled: Collection[Path] = frozenset(), pending: Collection[Path] = frozenset()
    ) -> None:
        self.document = document
        self.filled = filled
        self.pending = pending
        self.problems: list[Problem] = []
        self.asks: list[Ask] = []

    def ask(self, path: Path, code: str, message: str, hint: str = "", *, grant: str = "") -> None:
        """Note what the manifest understandably asks for and admission refuses, or a technician's `grant` allows."""
        if path not in self.pending:
            self.asks.append(Ask(code, path, message, hint, grant))

    def say(self, path: Path, code: str, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note a mistake at `path`."""
        if path not in self.pending or code in _SAID_ANYWAY:
            self.problems.append(self.document.problem(path, code, message, hint, at_key=at_key))

    def wrong(self, path: Path, value: Any, wanted: str) -> None:
        """Note that `value` is not what is wanted."""
        self.say(path, "manifest.type", f"{dotted(path)} is {describe(value)}", f"it must be {wanted}")

    def text(self, path: Path, value: Any, wanted: str = "text") -> str | None:
        """Text as it stands."""
        if isinstance(value, str):
            if len(value) <= MAX_TEXT_CHARS:
                return value
            self.say(
                path, "manifest.too_long", f"{dotted(path)} has {len(value)} characters", f"at most {MAX_TEXT_CHARS}"
            )
            return None
        self.wrong(path, value, wanted)
        return None

    def matching(self, path: Path, value: Any, pattern: re.Pattern[str], wanted: str) -> str | None:
        """Text of which all matches `pattern`."""
        text = self.text(path, value, wanted)
        if text is None or pattern.fullmatch(text):
            return text
        self.say(path, "manifest.value", f"{dotted(path)} is {describe(text)}", f"it must be {wanted}")
        return None

    def choice(self, path: Path, value: Any, allowed: Collection[str]) -> str | None:
        """One of `allowed`."""
        if isinstance(value, str) and value in allowed:
            return value
        wanted = did_you_mean(value, allowed) if isinstance(value, str) else "allowed: " + ", ".join(sorted(allowed))
        self.say(path, "manifest.value", f"{dotted(path)} is {describe(value)}", wanted)
        return None

    def flag(self, path: Path, value: Any) -> bool | None:
        """true or false."""
        if isinstance(value, bool):
            return value
        if path in self.filled and value in ("true", "false"):
            return bool(value == "true")
        self.wrong(path, value, "true or false")
        return None

    def integer(self, path: Path, value: Any, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`."""
        wanted = f"a whole number from {low} to {high}"
        if isinstance(value, str) and path in self.filled and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(path, value, wanted)
            return None
        if low <= value <= high:
            return value
        self.say(path, "manifest.value", f"{dotted(path)} is {value}", f"it must be {wanted}")
        return None

    def number(self, path: Path, value: Any, low: float, high: float) -> float | None:
        """A number from `low` to `high`, also as decimal text (``"0.5"``)."""
        wanted = f"a number from {low:g} to {high:g}"
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(path, value, wanted)
            return None
        if low <= value <= high:
            return float(value)
        self.say(path, "manifest.value", f"{dotted(path)} is {value}", f"it must be {wanted}")
        return None

    def seconds(self, path: Path, value: Any) -> float | None:
        """A duration such as ``1m30s`` in seconds."""
        wanted = "a duration such as 500ms, 10s or 1m30s"
        parts = _DURATION.findall(value) if isinstance(value, str) else []
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.wrong(path, value, wanted)
            return None
        total = math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
        if total <= MAX_DURATION_S:
            return total
        self.say(path, "manifest.value", f"{dotted(path)} is {describe(value)}", "it must be at most 30 days (720h)")
        return None

    def size(self, path: Path, value: Any) -> int | None:
        """Bytes: a whole number, or text such as ``64M``; factors are 1024 as in Compose."""
        wanted = "a size such as 64M, or a whole number of bytes"
        number: float
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and (match := _BYTES.fullmatch(value)) and len(match[1]) <= 18:
            number = float(match[1]) * _FACTOR[match[2].lower()]
        else:
            self.wrong(path, value, wanted)
            return None
        if 0 <= number <= MAX_BYTES:
            return int(number)
        self.say(
            path, "manifest.value", f"{dotted(path)} is {describe(value)}", f"it must be from 0 to {MAX_BYTES} bytes"
        )
        return None

    def items(self, path: Path, value: Any, wanted: str = "a list") -> Iterator[tuple[Path, Any]]:
        """The items of a list with their paths."""
        if isinstance(value, list):
            return (((*path, index), item) for index, item in enumerate(value))
        self.wrong(path, value, wanted)
        return iter(())

    def entries(self, path: Path, value: Any, wanted: str = "a mapping") -> Iterator[tuple[str, Path, Any]]:
        """The entries of a mapping as (key, path, value)."""
        if isinstance(value, dict):
            return ((str(key), (*path, str(key)), item) for key, item in value.items())
        self.wrong(path, value, wanted)
        return iter(())

    def fields(
        self,
        path: Path,
        value: Any,
        accepted: Collection[str],
        refused: Collection[str] = (),
        wanted: str = "a mapping",
    ) -> Mapping[str, Any]:
        """The known entries of a mapping; each other one is a mistake, but `x-...` is let be.

        `refused` are keys that are known and that the caller refuses by itself, each in its own words.
        """
        found: dict[str, Any] = {}
        for key, below, item in self.entries(path, value, wanted):
            if key in accepted or key in refused:
                found[key] = item
            elif not key.startswith("x-"):
                self.unknown(below, accepted, refused)
        return found

    def unknown(self, path: Path, accepted: Collection[str], refused: Collection[str] = ()) -> None:
        """Note a key that nobody knows, with the nearest known one, or else what is accepted."""
        key = str(path[-1])
        where = f" in {dotted(path[:-1])}" if path[:-1] else ""
        near = did_you_mean(key, {*accepted, *refused})
        hint = near if near.startswith("did") else did_you_mean("", accepted)
        self.say(path, "manifest.unknown_key", f"unknown key '{_cut(key)}'{where}", hint, at_key=True)

    def unsupported(self, path: Path, hint: str) -> None:
        """Note a known thing that this gateway does not carry out, so that it is never dropped in silence."""
        self.say(path, "manifest.unsupported", f"{dotted(path)} is not offered yet", hint, at_key=True)


def dotted(path: Path) -> str:
    """A path for a person: ``services.guard.ports[0]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else (f".{_cut(step)}" if text else _cut(step))
    return text or "the file"


def describe(value: Any) -> str:
    """A value for a person, with its kind."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text '{_cut(value)}'"
    return f"the number {_cut(str(value))}"


def as_text(value: bool | float | str) -> str:
    """A scalar as Compose writes it into text: true, 6.5, 10 (also for 10.0)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)


def _cut(text: str) -> str:
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= 60 else clean[:59] + "…"
