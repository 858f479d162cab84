"""A parsed configuration file that still knows where everything stood, and the mistakes found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.errors import Malformed

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in a file, both counted from 1. In a CSV file `line` is the row and `col` the column."""

    line: int
    col: int


NOWHERE = Mark(0, 0)
"""Of what came in a command: its mistakes name their key, and stand on no line of a file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, what is wrong, what is allowed. `code` is stable (``manifest.unknown_key``).

    `numbers` are its amounts by name, where a program can do something about them.
    """

    source: str
    mark: Mark
    code: str
    message: str
    hint: str = ""
    numbers: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text

    @property
    def where(self) -> str:
        """``file:line:col``, or the source alone where that has no lines."""
        return self.source if self.mark == NOWHERE else f"{self.source}:{self.mark.line}:{self.mark.col}"

    def as_dict(self) -> dict[str, Any]:
        """The wire form used by `--json`, replies and the local page; line and column 0 are none."""
        return {
            "file": self.source,
            "line": self.mark.line,
            "col": self.mark.col,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Document:
    """`data` is plain Python (dict, list, str, int, float, bool, None); `marks` gives each path's position.

    The mark of a mapping's value is where the value stands; the mark of its key is under ``path + ("#key",)``.
    """

    source: str
    data: Any
    marks: Mapping[Path, Mark] = field(default_factory=dict)
    text: str = ""

    def mark(self, path: Path) -> Mark:
        """The position of `path`, or of the nearest enclosing thing that has one."""
        for end in range(len(path), -1, -1):
            found = self.marks.get(path[:end])
            if found is not None:
                return found
        return Mark(1, 1)

    def key_mark(self, path: Path) -> Mark:
        """The position of the key that leads to `path`."""
        return self.marks.get((*path, "#key")) or self.mark(path)

    def problem(self, path: Path, code: str, message: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A mistake at `path` of this document."""
        mark = self.key_mark(path) if at_key else self.mark(path)
        return Problem(self.source, mark, code, message, hint)


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the nearest of `allowed`, or the list of what is allowed."""
    known = sorted(allowed)
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near else "allowed: " + ", ".join(known)


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The one of `allowed` that `word` is most like, where any is like it."""
    import difflib  # only who makes a mistake needs it

    return next(iter(difflib.get_close_matches(word, sorted(allowed), n=1, cutoff=0.6)), None)


class Mistakes(Malformed):
    """A file or manifest that cannot be used: every mistake found in it, each with its position."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("Mistakes needs at least one problem")
        self.problems: tuple[Problem, ...] = tuple(problems)
        first, more = self.problems[0], len(self.problems) - 1
        message = f"{first.where}: {first.message}"
        if more:
            message += f" (and {more} more)"
        super().__init__(
            first.code, message, hint=first.hint, problems=[problem.as_dict() for problem in self.problems]
        )
