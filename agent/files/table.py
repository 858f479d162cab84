"""A point table as people keep it in a spreadsheet: one row a point, one column a key. Becomes a Document.

The marks are (row, column) as the spreadsheet counts them, so the same checks as for YAML give ``row:col``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from agent.domain.document import Document, Mark, Mistakes, Path, Problem, did_you_mean

MAX_BYTES = 4 * 1024 * 1024
MAX_ROWS = 20_000
MAX_COLUMNS = 64
AREA = "table"
COLUMNS: dict[str, Path] = {
    "type": ("type",),
    "unit": ("unit",),
    "range_min": ("range", 0),
    "range_max": ("range", 1),
    "resolution": ("resolution",),
    "deadband": ("deadband",),
    "max_interval": ("max_interval",),
    "window": ("window",),
    "priority": ("priority",),
    "write": ("write",),
    "write_min": ("write", "min"),
    "write_max": ("write", "max"),
    "safe_value": ("safe", "value"),
    "safe_after": ("safe", "after"),
}
ADDRESS = "address."
TEXT = frozenset({"type", "unit", "max_interval", "window", "priority", "safe_after"})
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})?\.[0-9]+([eE][+-]?[0-9]{1,3})?|-?[1-9][0-9]*[eE][+-]?[0-9]{1,3}")
DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")


def read_table(raw: bytes, source: str) -> Document:
    """The table as ``{"points": {name: {...}}}``. Raises Mistakes and nothing else.

    The separator is a comma, semicolon or tab: the one most frequent in the first row. Rows that are empty or begin
    with ``#`` are passed over. An empty cell says nothing.
    """
    return _Table(_decode(raw, source), source).read()


def known_columns() -> list[str]:
    """The columns of a point table; ``address.<key>`` are the driver's own."""
    return ["point", *COLUMNS, f"{ADDRESS}<key>"]


class _Table:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._problems: list[Problem] = []
        self._paths: dict[int, Path] = {}
        self._names: dict[int, str] = {}
        self._name_column = -1
        self._points: dict[str, dict[str, Any]] = {}
        self._marks: dict[Path, Mark] = {(): Mark(1, 1)}

    def read(self) -> Document:
        rows = self._rows()
        for number, cells in rows:
            self._read_header(number, cells)
            break
        else:
            self._say(1, 1, "empty", "the table has no header row", f"begin it with: {', '.join(known_columns())}")
        if not self._problems:
            for number, cells in rows:
                self._read_row(number, cells)
        if self._problems:
            raise Mistakes(self._problems)
        return Document(self._source, {"points": self._points}, self._marks, self._text)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        first = next((line for line in self._text.splitlines() if line.strip() and not line.startswith("#")), "")
        separator = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=separator, strict=True)
        number = 0
        try:
            for number, cells in enumerate(reader, start=1):
                if number > MAX_ROWS:
                    self._say(number, 1, "too_many", f"more than {MAX_ROWS} rows", "split the table")
                    return
                stripped = [cell.strip() for cell in cells]
                if any(stripped) and not stripped[0].startswith("#"):
                    yield number, stripped
        except csv.Error as error:
            self._say(number + 1, 1, "syntax", f"not a table: {error}", "save it again as CSV (UTF-8)")

    def _read_header(self, number: int, cells: list[str]) -> None:
        if len(cells) > MAX_COLUMNS:
            self._say(number, MAX_COLUMNS + 1, "too_many", f"more than {MAX_COLUMNS} columns", "remove some")
            return
        seen: dict[str, int] = {}
        for index, cell in enumerate(cells):
            name = cell if cell.startswith(ADDRESS) else cell.lower()
            if not name:
                continue
            if name in seen:
                self._say(number, index + 1, "duplicate", f"column '{name}' stands twice", f"see column {seen[name]}")
            seen[name] = index + 1
            self._names[index] = name
            if name == "point":
                self._name_column = index
            elif name in COLUMNS:
                self._paths[index] = COLUMNS[name]
            elif name.startswith(ADDRESS) and len(name) > len(ADDRESS):
                self._paths[index] = ("address", name.removeprefix(ADDRESS))
            else:
                hint = did_you_mean(name, known_columns())
                self._say(number, index + 1, "unknown_key", f"unknown column '{cell}'", hint)
        if self._name_column < 0:
            self._say(number, 1, "missing_key", "there is no column 'point'", "it holds the names of the points")

    def _read_row(self, number: int, cells: list[str]) -> None:
        name = cells[self._name_column] if self._name_column < len(cells) else ""
        path: Path = ("points", name)
        if not name:
            self._say(number, self._name_column + 1, "missing_key", "the row has no point", "name it in column 'point'")
            return
        if name in self._points:
            first = self._marks[(*path, "#key")].line
            self._say(number, self._name_column + 1, "duplicate", f"point '{name}' stands twice", f"see row {first}")
            return
        entry: dict[str, Any] = {}
        self._points[name] = entry
        self._marks[path] = self._marks[(*path, "#key")] = Mark(number, self._name_column + 1)
        for index, cell in enumerate(cells):
            if cell and index not in self._names:
                self._say(
                    number, index + 1, "no_column", f"'{cell[:40]}' stands under no column's name", "name or clear it"
                )
            elif cell and index in self._paths:
                self._put(entry, path, index, cell, Mark(number, index + 1))
        self._finish_row(entry, path)

    def _put(self, entry: dict[str, Any], point: Path, index: int, cell: str, mark: Mark) -> None:
        column, (key, *below) = self._names[index], self._paths[index]
        if DECIMAL_COMMA.fullmatch(cell) and column not in TEXT:
            hint = f"write {cell.replace(',', '.')}"
            self._say(mark.line, mark.col, "bad_value", f"'{cell}' has a decimal comma", hint)
            return
        value = cell if column in TEXT else _value(cell)
        self._marks.setdefault((*point, key), mark)
        if not below:
            if not (key == "write" and isinstance(entry.get("write"), dict) and value is True):
                entry[str(key)] = value
            return
        self._marks[(*point, key, below[0])] = mark
        inner = entry.get(str(key))
        if not isinstance(inner, dict):
            entry[str(key)] = inner = {}
        inner[below[0]] = value

    def _finish_row(self, entry: dict[str, Any], path: Path) -> None:
        span = entry.get("range")
        if isinstance(span, dict):
            if len(span) == 1:
                missing = "range_max" if 0 in span else "range_min"
                mark = self._marks[(*path, "range")]
                self._say(mark.line, mark.col, "missing_key", f"'{missing}' is missing", "give both ends or none")
            entry["range"] = [span[end] for end in sorted(span)]

    def _say(self, row: int, col: int, what: str, message: str, hint: str) -> None:
        self._problems.append(Problem(self._source, Mark(row, col), f"{AREA}.{what}", message, hint))


def _value(cell: str) -> bool | int | float | str:
    """What a cell of a table means: a number, true, false, or the text as it is (``007`` stays a text)."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if INTEGER.fullmatch(cell):
        return int(cell)
    return float(cell) if DECIMAL.fullmatch(cell) else cell


def _decode(raw: bytes, source: str) -> str:
    hint = "choose 'CSV UTF-8' when saving from the spreadsheet"
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        mark = Mark(raw[: error.start].count(b"\n") + 1, 1)
        raise Mistakes([Problem(source, mark, f"{AREA}.encoding", "not UTF-8 text", hint)]) from None
    if "\0" in text:
        mark = Mark(text[: text.index("\0")].count("\n") + 1, 1)
        raise Mistakes([Problem(source, mark, f"{AREA}.encoding", "a NUL character, so this is no text", hint)])
    return text
