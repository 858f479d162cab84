"""`--value NAME=VALUE` and the like: words of the command line into typed parameters."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.errors import Malformed

MOST_BYTES = 1_048_576
"""More than any file that goes along with a command may have."""
MOST_DIGITS = 24
"""More than 64 bits hold: what has more is no number that the gateway knows."""
NUMBER = re.compile(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$")


def scalar(text: str) -> bool | int | float | str:
    """A number or true/false as such, "in double quotes" always text, everything else text."""
    if text in ("true", "false"):
        return text == "true"
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    match = NUMBER.match(text)
    if match is None or len(match[1]) > MOST_DIGITS:
        return text
    number = float(text) if match[2] or match[3] else int(text)
    return number if math.isfinite(number) else text


def split_pairs(words: Iterable[str] | None, option: str) -> dict[str, str]:
    """`NAME=VALUE` words as a mapping. Raises Malformed naming the option and the word."""
    found: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Malformed(
                "cli.not_a_pair", f"{option} {word}: not NAME=VALUE", hint=f"for example {option} POLL_S=0.5"
            )
        if name in found:
            raise Malformed("cli.given_twice", f"{option} {name} is given twice", hint="keep one of them")
        found[name] = value
    return found


def read_text(path: str) -> str:
    """The text of a file; Malformed with what to do when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise Malformed("cli.too_large", f"{path} is larger than 1 MiB", hint="is it the right file?")
        return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8").read()
    except UnicodeDecodeError as error:
        raise Malformed(
            "cli.not_text", f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    except OSError as error:
        raise Malformed(
            "cli.cannot_read", f"{path}: {error.strerror}", hint="see the path and its permissions"
        ) from error


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from a file; Malformed with file:line:col when it is not one."""
    text = read_text(path)
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # Python reads more than JSON has, and no agent does
    except json.JSONDecodeError as error:
        raise Malformed(
            "cli.not_json",
            f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}",
            hint="configuration is handed over as one JSON object",
        ) from error
    except (ValueError, RecursionError):
        what = "a number has too many digits or is none (NaN, Infinity), or it is nested too deeply"
        raise Malformed("cli.not_json", f"{path}: {what}", hint="see what wrote it") from None
    if not isinstance(value, dict):
        raise Malformed("cli.not_json", f"{path}: not a JSON object", hint='it must begin with "{"')
    return value
