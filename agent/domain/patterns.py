"""Regular expressions that people write: matched by CEL's engine, which needs linear time whatever the pattern.

Python's own backtracks: a pattern such as ``^(a+)+$`` would hold up the whole gateway on thirty letters.
"""

from __future__ import annotations

from functools import cache

from agent.domain.cel import Program, compile_cel

MAX_CHARS = 512


def check_pattern(pattern: str) -> str | None:
    """What is wrong with `pattern` as a regular expression, or None."""
    if len(pattern) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    try:
        _matches().execute({"text": "", "pattern": pattern})
    except (RuntimeError, ValueError, TypeError) as error:
        words = [line.strip() for line in str(error).splitlines()]
        said = [
            line.removeprefix("error: ").split(". Check function", maxsplit=1)[0]
            for line in words
            if line.startswith("error:")
        ]
        return said[0] if said else "not a regular expression"
    return None


def is_match(pattern: str, text: str) -> bool:
    """True when `pattern` matches somewhere in `text`. The pattern was checked before."""
    return bool(_matches().execute({"text": text, "pattern": pattern}))


def is_full_match(pattern: str, text: str) -> bool:
    """True when `pattern` matches all of `text`."""
    return is_match(rf"\A(?:{pattern})\z", text)


@cache
def _matches() -> Program:
    return compile_cel("text.matches(pattern)")
