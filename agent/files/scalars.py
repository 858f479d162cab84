"""What a plain (unquoted) YAML scalar means, refusing the ones on which YAML 1.1 and 1.2 disagree.

Compose, the engine's tools and the gateway read with different YAML versions. ``010`` is 8 to one and 10 to the
other; such a scalar has no meaning the technician can rely on, so it must be quoted or written otherwise.
"""

from __future__ import annotations

import math
import re

Plain = None | bool | int | float | str

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_OLD_BOOL = frozenset(
    word for base in ("y", "n", "yes", "no", "on", "off") for word in (base, base.capitalize(), base.upper())
)
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_DIFFERENT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[-+]?0[0-9_]+"), "octal in YAML 1.1 and decimal in YAML 1.2"),
    (re.compile(r"0o[0-7]+"), "a number in YAML 1.2 and text in YAML 1.1"),
    (re.compile(r"[-+]?0b[01_]+"), "a number in YAML 1.1 and text in YAML 1.2"),
    (re.compile(r"[-+]?0x[0-9a-fA-F_]+"), "a number in YAML 1.1 and text in YAML 1.2"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "a number to base 60 in YAML 1.1"),
    (re.compile(r"[-+]\.[0-9]+"), "text in YAML 1.1 and a number in YAML 1.2"),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+"), "text in YAML 1.1 and a number in YAML 1.2"),
    (re.compile(r"[-+]?([0-9][0-9_]*|\.[0-9][0-9_]*)(\.[0-9_]*)?([eE][-+]?[0-9]+)?"), "a number only in YAML 1.1"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"), "a date in YAML 1.1 and text in YAML 1.2"),
    (re.compile(r"=|<<"), "a special word in YAML 1.1 and text in YAML 1.2"),
)

INT_MIN, INT_MAX = -(2**63), 2**64 - 1


class UnclearError(ValueError):
    """The scalar is refused; the text says why and `hint` what to write instead."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def read_plain(text: str) -> Plain:
    """The value of the plain scalar `text`. Raises UnclearError for what has two readings or no use."""
    if not text or text[0].isalpha() or text[0] in "~/":
        return _read_word(text)
    if _DECIMAL.fullmatch(text):
        return _read_int(text, 10)
    if _HEX.fullmatch(text):
        return _read_int(text, 16)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        raise _no_number(text)
    if _NOT_FINITE.fullmatch(text):
        raise _no_number(text)
    for pattern, why in _DIFFERENT:
        if pattern.fullmatch(text):
            raise UnclearError("yaml.ambiguous", f"{shorten(text)} is {why}", _hint(text))
    return text


def _read_word(text: str) -> Plain:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text in _OLD_BOOL:
        raise UnclearError(
            "yaml.ambiguous",
            f"{text} is true or false in YAML 1.1 and text in YAML 1.2",
            f'quote it: "{text}", or write true or false',
        )
    return text


def _read_int(text: str, base: int) -> int:
    # Twenty digits hold 64 bits; longer ones are not even converted, which is slow on purpose in CPython.
    number = int(text, base) if len(text) <= 24 else INT_MAX + 1
    if not INT_MIN <= number <= INT_MAX:
        raise UnclearError("yaml.number", f"{shorten(text)} does not fit in 64 bits", _hint(text))
    return number


def _no_number(text: str) -> UnclearError:
    return UnclearError(
        "yaml.number", f"{shorten(text)} is not a finite number", "write a number, or quote it to mean text"
    )


def _hint(text: str) -> str:
    return f'quote it: "{shorten(text)}"'


def shorten(text: str, chars: int = 40) -> str:
    """`text` cut to at most `chars` characters, for a message."""
    return text if len(text) <= chars else text[: chars - 1] + "…"
