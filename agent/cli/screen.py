"""Output for people: aligned tables, colours on a terminal, plain text elsewhere; or one JSON document."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from agent.cli.words import clean, plain, tone_of, width

TONES = {"good": "32", "busy": "33", "bad": "31", "dim": "2", "head": "1"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the key in the row, the title, and how a value becomes text."""

    key: str
    title: str = ""
    show: Callable[[Any], str] = plain


class Screen:
    """Where a command's answer goes. `colour` and `live` are for terminals; `as_json` turns tables off."""

    def __init__(
        self, out: TextIO, err: TextIO, *, as_json: bool = False, colour: bool = False, live: bool = False
    ) -> None:
        self.out = out
        self.err = err
        self.as_json = as_json
        self.colour = colour
        self.live = live

    def paint(self, text: str, tone: str) -> str:
        """`text` in the colour of `tone`, where colours are on."""
        return f"\x1b[{TONES[tone]}m{text}\x1b[0m" if self.colour and tone else text

    def line(self, text: str = "") -> None:
        """One line, with control characters made harmless: names and logs come from APPs."""
        print(clean(text), file=self.out, flush=True)

    def json(self, value: Any) -> None:
        """The one document of `--json`."""
        print(self._encodable(value, indent=2), file=self.out, flush=True)

    def json_line(self, value: Any) -> None:
        """One document of a stream with `--json`."""
        print(self._encodable(value, separators=(",", ":")), file=self.out, flush=True)

    def _encodable(self, value: Any, **style: Any) -> str:
        """`value` as JSON, with escapes only where the output's encoding has no such character."""
        text = json.dumps(value, ensure_ascii=False, **style)
        try:
            text.encode(self.out.encoding or "utf-8")
        except UnicodeEncodeError:
            return json.dumps(value, **style)
        return text

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str) -> None:
        """Aligned columns under titles; `empty` is said where there are no rows. Columns nobody has are left out."""
        found = list(rows)
        if not found:
            self.line(empty)
            return
        used = [column for column in columns if any(row.get(column.key) not in (None, "") for row in found)]
        cells = [[clean(column.show(row.get(column.key))) for column in used] for row in found]
        titles = [(column.title or column.key).upper() for column in used]
        widths = [max(width(text) for text in texts) for texts in zip(titles, *cells, strict=True)]
        self._row(titles, widths, ["head"] * len(used))
        for texts in cells:
            self._row(texts, widths, [tone_of(text) for text in texts])

    def _row(self, texts: Sequence[str], widths: Sequence[int], tones: Sequence[str]) -> None:
        last = len(texts) - 1
        parts = [
            self.paint(text, tone) + (" " * (wide - width(text)) if index < last else "")
            for index, (text, wide, tone) in enumerate(zip(texts, widths, tones, strict=True))
        ]
        print("  ".join(parts).rstrip(), file=self.out, flush=True)

    def pairs(self, value: Mapping[str, Any], *, indent: int = 0) -> None:
        """A mapping as `key: value` lines, nested mappings and lists indented."""
        wide = max((width(str(key)) for key in value), default=0)
        for key, item in value.items():
            name = clean(str(key))
            start = " " * indent + name + ":" + " " * (wide - width(name) + 1)
            if isinstance(item, Mapping) and item:
                print(start.rstrip(), file=self.out)
                self.pairs(item, indent=indent + 2)
            elif isinstance(item, list) and item:
                print(start.rstrip(), file=self.out)
                self._items(item, indent + 2)
            else:
                text = clean(plain(item))
                print(start + self.paint(text, tone_of(text)), file=self.out)
        self.out.flush()

    def _items(self, items: Sequence[Any], indent: int) -> None:
        for item in items:
            text = ", ".join(f"{k} {plain(v)}" for k, v in item.items()) if isinstance(item, Mapping) else plain(item)
            print(" " * indent + "- " + clean(text), file=self.out)

    def note(self, text: str) -> None:
        """Progress and remarks go to the error stream, so that what is piped stays clean. Silent with `--json`."""
        if not self.as_json:
            self._wipe()
            print(clean(text), file=self.err, flush=True)

    def progress(self, text: str) -> None:
        """A line that the next one overwrites; only on a terminal."""
        if self.live and not self.as_json:
            self._wipe()
            self.err.write(clean(text)[:118])
            self.err.flush()

    def end_progress(self) -> None:
        """Leave no half line behind."""
        if self.live and not self.as_json:
            self._wipe()
            self.err.flush()

    def _wipe(self) -> None:
        if self.live:
            self.err.write("\r\x1b[K")


def open_screen(environ: Mapping[str, str], *, as_json: bool) -> Screen:
    """The screen of this process: colours on a terminal unless NO_COLOR or TERM=dumb say otherwise."""
    capable = environ.get("TERM", "dumb") != "dumb"
    colour = capable and sys.stdout.isatty() and not environ.get("NO_COLOR")
    live = capable and sys.stderr.isatty()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names and logs hold what a terminal of another encoding cannot show; its error stream escapes that already.
        sys.stdout.reconfigure(errors="backslashreplace")
    return Screen(sys.stdout, sys.stderr, as_json=as_json, colour=colour, live=live)
