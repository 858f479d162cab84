"""JSON as a stranger may send it: every doubtful form is refused, and the place of the mistake is named."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

DEPTH_MAX = 32
_INT_MAX = 2**63 - 1
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_STRING = re.compile(rb'\s*("(?:[^"\\\x00-\x1f]|\\.){0,128}")\s*')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """Not the JSON that is accepted. `path` is where, ``""`` for the whole: ``params.values``."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class _Repeated(dict[str, Any]):
    """An object in which a key stood twice."""

    key: str = ""


def parse(payload: bytes) -> Any:
    """`payload` as plain Python. Raises JsonError, whatever the bytes are.

    Refused beyond JSON's own rules: duplicate keys, NaN and infinities, numbers outside 64 bits, nesting over 32
    levels, lone surrogates (no UTF-8 file, log or reply could hold them).
    """
    if _depth_exceeds(payload, DEPTH_MAX):
        raise JsonError(f"nested deeper than {DEPTH_MAX} levels")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 at byte {error.start}") from None
    repeated: list[_Repeated] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        marked = _Repeated(found)
        seen: set[str] = set()
        marked.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        repeated.append(marked)
        return marked

    try:
        data = json.loads(
            text,
            object_pairs_hook=collect,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise JsonError(f"nested deeper than {DEPTH_MAX} levels") from None
    if repeated:
        raise JsonError(f"the key {repeated[0].key!r} stands twice", _find(data, repeated[0]))
    if _SURROGATE.search(payload):
        _refuse_lone_surrogates(data)
    return data


def read_id(payload: bytes, key: str = "id") -> str | None:
    """The text under `key` of the outermost object, even where the rest cannot be parsed; None if not readable.

    Looks at the first 4 KiB only. A message that is refused can so be answered to the one who waits for it.
    """
    head, depth, position = payload[:4096], 0, 0
    wanted = json.dumps(key).encode()
    while (token := _TOKEN.search(head, position)) is not None:
        position = token.end()
        word = token.group()
        if word in (b"{", b"["):
            depth += 1
        elif word in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and word == wanted and head[position : position + 8].lstrip()[:1] == b":":
            value = _STRING.match(head, head.index(b":", position) + 1)
            return None if value is None else _as_text(value.group(1))
    return None


def _as_text(literal: bytes) -> str | None:
    try:
        text: str = json.loads(literal)
        text.encode()
    except (ValueError, UnicodeError):
        return None
    return text


def _depth_exceeds(payload: bytes, limit: int) -> bool:
    if payload.count(b"{") + payload.count(b"[") <= limit:
        return False
    depth = 0
    for token in _TOKEN.finditer(payload):
        word = token.group()
        if word in (b"{", b"["):
            depth += 1
            if depth > limit:
                return True
        elif word in (b"}", b"]"):
            depth -= 1
    return False


def _refuse_constant(word: str) -> NoReturn:
    raise JsonError(f"{word} is not a number of JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise JsonError(f"the number {text[:32]} is too large")
    return number


def _parse_int(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > _INT_MAX:
        raise JsonError(f"the number {text[:32]} does not fit 64 bits")
    return number


def _refuse_lone_surrogates(data: Any) -> None:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonError("a text has half of a surrogate pair (\\ud800 to \\udfff alone)") from None


def _find(data: Any, wanted: object, path: str = "") -> str:
    """The path of the object `wanted` in `data`; depth is bounded by `parse`."""
    if data is wanted:
        return path
    items: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        step = f"[{key}]" if isinstance(data, list) else f".{key}" if path else str(key)
        found = _find(value, wanted, path + step)
        if found or value is wanted:
            return found
    return ""
