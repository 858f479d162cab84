"""A point as it stands in devices.d and points.d, in YAML or as a row of a table, and what must hold within it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from agent.domain.priority import Priority
from agent.domain.sample import PointConfig, SafeValue, WriteLimits
from agent.files.quantities import AnyScalar, NotNegative, Number, Positive, PositiveS, mistake, shown
from agent.files.shape import Shape, schema_of

NUMERIC = frozenset({"float", "int"})
NUMERIC_KEYS = ("range", "resolution", "deadband", "window")
Say = Callable[[tuple[str | int, ...], str, str, str], None]


@dataclass(frozen=True, slots=True)
class WriteShape(Shape):
    """Who may write: anybody with the right to, within these bounds."""

    min: Annotated[Number | None, Field(description="least value that may be written")] = None
    max: Annotated[Number | None, Field(description="greatest value that may be written")] = None


def _write(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, dict):
        return value
    raise mistake(f"{shown(value)}, not a mapping", "write true, or {min: 0, max: 100}")


@dataclass(frozen=True, slots=True)
class SafeShape(Shape):
    """The value an output falls back to."""

    value: Annotated[AnyScalar, Field(description="what the driver applies")]
    after: Annotated[PositiveS, Field(description="how long rule, writer or agent may be silent before")]


@dataclass(frozen=True, slots=True)
class PointShape(Shape):
    """One point. Everything but the address means the same for every driver."""

    address: Annotated[
        Mapping[str, AnyScalar], Field(max_length=32, description="where the driver finds it; the driver's own keys")
    ] = field(default_factory=dict)
    type: Annotated[Literal["float", "int", "bool", "string"], Field(description="what its values are")] = "float"
    unit: Annotated[str, Field(max_length=32, description="unit, for people")] = ""
    range: Annotated[tuple[Number, Number] | None, Field(description="[lowest, highest] that the sensor can give")] = (
        None
    )
    resolution: Annotated[Positive | None, Field(description="smallest step that means something")] = None
    deadband: Annotated[NotNegative, Field(description="a change up to this is not worth telling")] = 0.0
    max_interval: Annotated[PositiveS | None, Field(description="longest silence even when the value stands still")] = (
        None
    )
    window: Annotated[PositiveS | None, Field(description="length of the aggregation window")] = None
    priority: Annotated[Priority, Field(description="how urgent it is on its way to the cloud")] = Priority.NORMAL
    write: Annotated[
        WriteShape | None,
        BeforeValidator(_write),
        WithJsonSchema({"anyOf": [schema_of(WriteShape), {"type": "boolean"}]}),
        Field(description="may be written, within {min, max}"),
    ] = None
    safe: Annotated[SafeShape | None, Field(description="what an output falls back to, and when")] = None


def point_config(point: PointShape, name: str, device: str, source: str) -> PointConfig:
    """The domain's form of a point."""
    return PointConfig(
        name=name,
        device=device,
        type=point.type,
        unit=point.unit,
        range=point.range,
        resolution=point.resolution,
        deadband=point.deadband,
        max_interval_s=point.max_interval,
        window_s=point.window,
        priority=point.priority,
        writable=point.write is not None,
        limits=WriteLimits(point.write.min, point.write.max) if point.write else WriteLimits(),
        safe=SafeValue(point.safe.value, point.safe.after) if point.safe else None,
        address=tuple(point.address.items()),
        source=source,
    )


def check_point(point: PointShape, given: Collection[str], say: Say) -> None:
    """Say every mistake between the keys of one point; `given` are those that the file states.

    `say` takes a path below the point, a word for the code, what is wrong and what is allowed.
    """
    if point.type not in NUMERIC:
        for key in NUMERIC_KEYS:
            if key in given:
                say((key,), "no_meaning", f"'{key}' means nothing for type {point.type}", "remove it, or mend the type")
    if point.range is not None:
        _check_range(point, point.range, say)
    if point.write is not None:
        _check_write(point, say)
    elif point.safe is not None:
        say(("safe",), "not_writable", "'safe' is given for a point that cannot be written", "add write: {min, max}")
    for message, hint in _safe_mistakes(point):
        say(("safe", "value"), "unsafe", message, hint)


def _check_range(point: PointShape, span: tuple[float, float], say: Say) -> None:
    low, high = span
    if low >= high:
        say(("range",), "range_inverted", f"'range' goes from {low} to {high}", "write [lowest, highest]")
    elif point.deadband >= high - low:
        hint = f"the range spans {high - low:g}; every change would be swallowed"
        say(("deadband",), "deadband", f"'deadband' is {point.deadband:g}", hint)


def _check_write(point: PointShape, say: Say) -> None:
    assert point.write is not None
    low, high = point.write.min, point.write.max
    if point.type not in NUMERIC and (low is not None or high is not None):
        say(("write",), "no_meaning", f"write limits mean nothing for type {point.type}", "write true")
    if low is not None and high is not None and low > high:
        say(("write",), "range_inverted", f"'write' goes from {low} to {high}", "write {min: lowest, max: highest}")
    for key, bound in (("min", low), ("max", high)):
        if bound is not None and point.range is not None and not point.range[0] <= bound <= point.range[1]:
            hint = f"allowed: {point.range[0]} to {point.range[1]}"
            say(("write", key), "out_of_range", f"'write.{key}' is {bound}, outside the point's range", hint)


def _safe_mistakes(point: PointShape) -> Iterator[tuple[str, str]]:
    if point.safe is None:
        return
    value = point.safe.value
    if not _fits(point.type, value):
        yield f"'safe.value' is {shown(value)}, not of type {point.type}", "write a value of the point's type"
        return
    low, high = (point.write.min, point.write.max) if point.write else (None, None)
    if isinstance(value, bool | str) or (low is None and high is None):
        return
    if value < (-math.inf if low is None else low) or value > (math.inf if high is None else high):
        yield f"'safe.value' is {value}, outside the write limits", f"allowed: {_span(low, high)}"


def _span(low: float | None, high: float | None) -> str:
    return f"{low} to {high}" if None not in (low, high) else f"at least {low}" if high is None else f"at most {high}"


def _fits(kind: str, value: object) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    return not isinstance(value, bool) and isinstance(value, int if kind == "int" else int | float)
