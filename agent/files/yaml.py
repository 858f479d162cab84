"""Reads the YAML of people: a Document that knows where everything stands, or every mistake with its position.

One reader for all kinds of files. It builds plain Python from libyaml's events, so that no tag can name a class,
no anchor can explode and no nesting can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from agent.domain.document import Document, Mark, Mistakes, Path, Problem
from agent.files.scalars import Plain, UnclearError, read_plain, shorten

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_ALIASED_NODES = 10_000
MAX_PROBLEMS = 50


def read_document(text: str | bytes, source: str, *, max_bytes: int = MAX_BYTES) -> Document:
    """Parse one YAML document. `source` is the file's name as people know it. Raises Mistakes and nothing else.

    Mapping keys are always text. An empty file is a Document whose data is None.
    """
    decoded = _decode(text, source, max_bytes)
    composer = _Composer(decoded, source)
    root = composer.compose()
    if composer.problems:
        raise Mistakes(composer.problems)
    marks: dict[Path, Mark] = {}
    data = _build(root, (), marks) if root is not None else None
    return Document(source, data, marks, decoded)


class _Node:
    """A composed node. `value` is a scalar, a list of nodes, or a list of (key, key mark, node)."""

    __slots__ = ("height", "kind", "mark", "size", "value")

    def __init__(self, kind: str, value: Any, mark: Mark, parts: Iterable[_Node] = ()) -> None:
        self.kind = kind
        self.value = value
        self.mark = mark
        self.size = 1
        self.height = 0
        for part in parts:
            self.size += part.size
            self.height = max(self.height, part.height + 1)


class _StopReadingError(Exception):
    """Reading on makes no sense; the problems say why."""


class _Composer:
    """Turns events into nodes and gathers what is wrong."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._text = text
        self._anchors: dict[str, _Node | None] = {}
        self._aliased = 0

    def compose(self) -> _Node | None:
        """The root node; None for an empty document, or when `problems` says that there is none."""
        loader = yaml.CSafeLoader(self._text)
        try:
            return self._document(loader)
        except _StopReadingError:
            return None
        except yaml.reader.ReaderError as error:
            self.problems.append(self._unreadable(error))
        except yaml.MarkedYAMLError as error:
            self.problems.append(self._syntax(error))
        except yaml.YAMLError as error:
            self.problems.append(Problem(self.source, Mark(1, 1), "yaml.syntax", str(error)))
        finally:
            loader.dispose()
        return None

    def _document(self, loader: Any) -> _Node | None:
        loader.get_event()
        if isinstance(loader.get_event(), yaml.StreamEndEvent):
            return None
        root = self._node(loader, loader.get_event(), 0)
        loader.get_event()
        after = loader.get_event()
        if not isinstance(after, yaml.StreamEndEvent):
            self._say(_mark(after), "yaml.documents", "a second document ('---') in one file", "use one file for each")
        return root

    def _node(self, loader: Any, event: Any, depth: int) -> _Node:
        mark = _mark(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), mark, depth)
        if event.tag is not None:
            self._say(mark, "yaml.tag", f"tag {shorten(event.tag)} is not accepted", "write plain values without '!'")
        if depth > MAX_DEPTH:
            self._say(mark, "yaml.depth", f"nested deeper than {MAX_DEPTH} levels", "flatten it", stop=True)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = _Node("scalar", self._scalar(event, mark), mark)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(loader, mark, depth)
        else:
            node = self._mapping(loader, mark, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any, mark: Mark) -> Plain:
        if event.style:
            self._refuse_nul(event.value, mark)
            return str(event.value)
        try:
            return read_plain(event.value)
        except UnclearError as no:
            self._say(mark, no.code, str(no), no.hint)
            return str(event.value)

    def _refuse_nul(self, text: str, mark: Mark) -> None:
        # An escape in double quotes can make one; no file name, variable or argument can hold it.
        if "\0" in text:
            self._say(mark, "yaml.character", "a NUL character", "remove the escape")

    def _sequence(self, loader: Any, mark: Mark, depth: int) -> _Node:
        items: list[_Node] = []
        while not isinstance(event := loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._node(loader, event, depth + 1))
        return _Node("list", items, mark, items)

    def _mapping(self, loader: Any, mark: Mark, depth: int) -> _Node:
        own: dict[str, tuple[str, Mark, _Node]] = {}
        merged: list[_Node] = []
        merge_mark: Mark | None = None
        while not isinstance(event := loader.get_event(), yaml.MappingEndEvent):
            key_mark = _mark(event)
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style:
                if merge_mark is not None:
                    self._say(key_mark, "yaml.duplicate_key", "'<<' stands twice here", _first(merge_mark))
                merge_mark = key_mark
                merged.extend(self._merge(loader, depth))
                continue
            key = self._key(loader, event, key_mark, depth)
            value = self._node(loader, loader.get_event(), depth + 1)
            if key in own:
                self._say(
                    key_mark, "yaml.duplicate_key", f"key '{shorten(key)}' stands twice here", _first(own[key][1])
                )
            else:
                own[key] = (key, key_mark, value)
        for source in merged:
            for entry in source.value:
                own.setdefault(entry[0], entry)
        return _Node("map", list(own.values()), mark, [entry[2] for entry in own.values()])

    def _key(self, loader: Any, event: Any, mark: Mark, depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._node(loader, event, depth + 1)
            self._say(mark, "yaml.key", "a key must be text", "write 'name: value'")
            return f"\0{mark.line}:{mark.col}"
        if event.tag is not None:
            self._say(mark, "yaml.tag", f"tag {shorten(event.tag)} is not accepted", "write plain keys without '!'")
        key = str(event.value)
        self._refuse_nul(key, mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Node("scalar", key, mark)
        # The letters y and n are names of points and axes; as keys no reader in use takes them for a truth.
        if not event.style and key not in ("y", "n", "Y", "N"):
            try:
                plain = read_plain(key)
            except UnclearError as no:
                self._say(mark, no.code, f"key {no}", f'quote it: "{shorten(key)}"')
            else:
                if not isinstance(plain, str):
                    self._say(mark, "yaml.key", f"key '{shorten(key)}' is not text", f'quote it: "{shorten(key)}"')
        return key

    def _merge(self, loader: Any, depth: int) -> list[_Node]:
        value = self._node(loader, loader.get_event(), depth + 1)
        sources = value.value if value.kind == "list" else [value]
        for source in sources:
            if source.kind != "map":
                self._say(value.mark, "yaml.merge", "'<<' takes a mapping or a list of mappings", "write '<<: *name'")
                return []
        return list(sources)

    def _alias(self, name: str, mark: Mark, depth: int) -> _Node:
        if name not in self._anchors:
            self._say(mark, "yaml.anchor", f"'*{shorten(name)}' has no anchor before it", f"write '&{shorten(name)}'")
            return _Node("scalar", None, mark)
        node = self._anchors[name]
        if node is None:
            self._say(mark, "yaml.anchor", f"'*{shorten(name)}' stands inside itself", "copy what is meant", stop=True)
            raise AssertionError
        # What the reader will build, not what is written: nine aliases of nine aliases of ... is how they explode.
        self._aliased += node.size
        if self._aliased > MAX_ALIASED_NODES:
            limit = f"anchors repeat more than {MAX_ALIASED_NODES} values"
            self._say(mark, "yaml.anchors", limit, "write out what is meant", stop=True)
        if depth + node.height > MAX_DEPTH:
            self._say(mark, "yaml.depth", f"nested deeper than {MAX_DEPTH} levels", "flatten it", stop=True)
        return node

    def _say(self, mark: Mark, code: str, message: str, hint: str = "", *, stop: bool = False) -> None:
        self.problems.append(Problem(self.source, mark, code, message, hint))
        if stop or len(self.problems) >= MAX_PROBLEMS:
            raise _StopReadingError

    def _syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        marks = [Mark(at.line + 1, at.column + 1) for at in (error.problem_mark, error.context_mark) if at is not None]
        # What was never closed shows at the end of the file; people look for it where it was opened.
        end = _end_of(self._text.rstrip("\n"))
        mark = next((at for at in marks if at.line <= end.line), end)
        words = ": ".join(part for part in (error.context, error.problem) if part)
        hint = "a value with ': ' or '#' in it, or that begins with a special sign, must be quoted"
        if "'\\t'" in words or "tab" in words or self._text_at(mark) == "\t":
            words, hint = "a tab stands where only spaces may stand", "indent with spaces"
        return Problem(self.source, mark, "yaml.syntax", f"not YAML: {words}", hint)

    def _unreadable(self, error: yaml.reader.ReaderError) -> Problem:
        before = self._text.encode()[: error.position].decode(errors="ignore")
        where = _end_of(before)
        return Problem(
            self.source, where, "yaml.character", f"a character that no text has: {error.reason}", "remove it"
        )

    def _text_at(self, mark: Mark) -> str:
        lines = self._text.splitlines()
        line = lines[mark.line - 1] if mark.line <= len(lines) else ""
        return line[mark.col - 1 : mark.col]


def _build(node: _Node, path: Path, marks: dict[Path, Mark]) -> Any:
    marks[path] = node.mark
    if node.kind == "scalar":
        return node.value
    if node.kind == "list":
        return [_build(part, (*path, index), marks) for index, part in enumerate(node.value)]
    built: dict[str, Any] = {}
    for key, key_mark, part in node.value:
        below = (*path, key)
        built[key] = _build(part, below, marks)
        marks[(*below, "#key")] = key_mark
    return built


def _decode(text: str | bytes, source: str, max_bytes: int) -> str:
    try:
        raw = text.encode() if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError as error:
        assert isinstance(text, str)
        where = _end_of(text[: error.start])
        raise Mistakes(
            [Problem(source, where, "yaml.encoding", "not valid Unicode text", "save it as UTF-8")]
        ) from None
    if len(raw) > max_bytes:
        words = f"{len(raw)} bytes, the most is {max_bytes}"
        raise Mistakes([Problem(source, Mark(1, 1), "yaml.too_large", words, "split it")])
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        where = _end_of(raw[: error.start].decode())
        raise Mistakes([Problem(source, where, "yaml.encoding", "not UTF-8 text", "save it as UTF-8")]) from None


def _end_of(text: str) -> Mark:
    return Mark(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _mark(event: Any) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1)


def _first(mark: Mark) -> str:
    return f"the first is at {mark.line}:{mark.col}"
