"""Durations, sizes and scalars as people write them, with what to say when they are written otherwise."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])(?:i?b)?|b)", re.IGNORECASE | re.ASCII)
POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
LARGEST_INT = 2**63 - 1
LARGEST = 1e300
LONGEST_S = 3650 * 86_400.0
DURATION_HINT = "write a number and its unit: 500ms, 10s, 5m, 2h or 1d"
SIZE_HINT = "write a number and its unit: 64M, 512M or 2G (K, M, G count in 1024s, as in Compose)"


def parse_duration_s(text: object) -> float:
    """``500ms``, ``10s``, ``1m30s`` -> seconds. Raises ValueError in words that follow 'is'."""
    written = text.replace(" ", "") if isinstance(text, str) else ""
    parts = DURATION.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise ValueError(f"{shown(text)}, not a duration")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if seconds > LONGEST_S:
        raise ValueError(f"{shown(text)}, longer than ten years")
    return seconds


def parse_size_bytes(text: object) -> int:
    """``64M``, ``64MiB``, ``1.5G`` -> bytes, counted in 1024s. Raises ValueError in words that follow 'is'."""
    match = SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{shown(text)}, not a size")
    size = float(match[1]) * 1024 ** POWER[(match[2] or "").lower()]
    if size > 1024**5:
        raise ValueError(f"{shown(text)}, larger than 1024 T")
    return int(size)


def duration_text(seconds: float) -> str:
    """Seconds as a file writes them: ``500ms``, ``10s``, ``5m``."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:.10g}{unit}"
    return f"{seconds * 1000:.10g}ms" if seconds else "0s"


def size_text(size_bytes: int) -> str:
    """Bytes as a file writes them: ``64M``, ``1G``."""
    for unit in ("t", "g", "m", "k"):
        whole = 1024 ** POWER[unit]
        if size_bytes >= whole and size_bytes % whole == 0:
            return f"{size_bytes // whole}{unit.upper()}"
    return f"{size_bytes}B"


def shown(value: object) -> str:
    """A value as the file's reader sees it, short enough for one line of a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    return text if len(text) <= 48 else text[:44] + " ..."


def mistake(message: str, hint: str = "") -> PydanticCustomError:
    """An error for a validator to raise. `message` follows '<key> is': ``'abc', not a duration``."""
    return PydanticCustomError("said", "{message}", {"message": message, "hint": hint})


def _duration(value: object) -> float:
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise mistake(str(error), DURATION_HINT) from None


def _positive_duration(value: object) -> float:
    seconds = _duration(value)
    if seconds <= 0:
        raise mistake(f"{shown(value)}, no time at all", DURATION_HINT)
    return seconds


def _size(value: object) -> int:
    if value == "0" or (value == 0 and type(value) is int):
        return 0  # nothing is nothing in every unit
    try:
        return parse_size_bytes(value)
    except ValueError as error:
        raise mistake(str(error), SIZE_HINT) from None


def between(low: float, high: float, words: str) -> AfterValidator:
    """Bounds of a duration or size; `words` says them as they are written in a file: ``5s to 20m``."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise mistake("out of bounds", f"allowed: {words}")
        return value

    return AfterValidator(check)


def _scalar(value: Any) -> bool | int | float | str:
    if isinstance(value, float) and not math.isfinite(value):
        raise mistake(f"{shown(value)}, not a finite number")
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        raise mistake(f"{shown(value)}, more than 64 bits hold")
    if isinstance(value, bool | int | float | str):
        return value
    raise mistake(f"{shown(value)}, not one value", "write a number, true, false or a text")


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mistake(f"{shown(value)}, not a number")
    if not abs(value) <= LARGEST:
        raise mistake(f"{shown(value)}, not a finite number")
    return value


_DURATION_SCHEMA = {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["500ms", "10s", "5m"]}
DurationS = Annotated[float, PlainValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
PositiveS = Annotated[float, PlainValidator(_positive_duration), WithJsonSchema(_DURATION_SCHEMA)]
SizeBytes = Annotated[
    int,
    PlainValidator(_size),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^(\d+(\.\d+)? ?([kKmMgGtT]([iI]?[bB])?|[bB])|0)$",
            "maximum": 0,
            "minimum": 0,
            "examples": ["64M", "1G"],
        }
    ),
]
AnyScalar = Annotated[
    bool | int | float | str,
    PlainValidator(_scalar),
    WithJsonSchema({"type": ["boolean", "number", "string"]}),
]
Number = Annotated[float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Positive = Annotated[
    float, PlainValidator(_number), Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
NotNegative = Annotated[float, PlainValidator(_number), Field(ge=0), WithJsonSchema({"type": "number", "minimum": 0})]
