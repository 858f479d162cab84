"""points.d: overrides for points that APPs publish, by name or filter, from YAML and from tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from agent.domain.document import Document, Mistakes, Path
from agent.domain.grants import check_filter
from agent.domain.override import PointOverride
from agent.files.effect import Claim, Effect, position
from agent.files.pointshape import NUMERIC_KEYS, PointShape, WriteShape, check_point, point_config
from agent.files.quantities import mistake, shown
from agent.files.shape import Shape, in_order, read_units

AREA = "points"
FIELDS: Mapping[str, tuple[str, ...]] = {
    "type": ("type",),
    "unit": ("unit",),
    "range": ("range",),
    "resolution": ("resolution",),
    "deadband": ("deadband",),
    "max_interval": ("max_interval_s",),
    "window": ("window_s",),
    "priority": ("priority",),
    "write": ("writable", "limits"),
    "safe": ("safe",),
}


def _filter(text: str) -> str:
    wrong = check_filter(text)
    if wrong:
        raise mistake(f"{shown(text)}: {wrong}", "write a name such as pump/speed, or a filter such as pump/#")
    return text


@dataclass(frozen=True, slots=True)
class PointsFile(Shape):
    """A file of points.d. Keys are names or filters; only what is given changes."""

    points: Annotated[
        Mapping[Annotated[str, AfterValidator(_filter)], PointShape],
        Field(description="settings, by name or MQTT filter of points"),
    ]


def read_points(document: Document) -> Effect:
    """The overrides of a YAML file or table. Raises Mistakes with every mistake."""
    file, problems = read_units(document, PointsFile, AREA, [("points", "*")])
    overrides: list[PointOverride] = []
    claims: list[Claim] = []
    for name, point in (file.points if file else {}).items():
        here: Path = ("points", name)
        given = [key for key in PointShape.__dataclass_fields__ if (*here, key) in document.marks]

        def say(below: Path, what: str, message: str, hint: str, here: Path = here) -> None:
            problems.append(document.problem((*here, *below), f"{AREA}.{what}", message, hint))

        if "address" in given:
            say(("address",), "no_meaning", "'address' has no meaning here", "a device's points stand in devices.d")
        check_point(_as_if_whole(point, given), given, say)
        mark = document.key_mark(here)
        overrides.append(PointOverride(name, _changes(point, given), position(document.source, mark)))
        claims.append(Claim(f"override of '{name}'", mark))
    if problems:
        raise Mistakes(in_order(problems))
    return Effect(document.source, tuple(overrides), tuple(claims))


def order_overrides(overrides: Iterable[PointOverride]) -> tuple[PointOverride, ...]:
    """All overrides as they are applied: wide filters first, exact names last."""
    return tuple(sorted(overrides, key=lambda each: each.breadth))


def _as_if_whole(point: PointShape, given: list[str]) -> PointShape:
    """What the file leaves out is the APP's: taken to be whatever does not contradict the rest."""
    kind = point.type
    if "type" not in given and point.safe is not None and not any(key in given for key in NUMERIC_KEYS):
        value = point.safe.value
        kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "float"
    write = point.write
    if "write" not in given and point.safe is not None:
        write = WriteShape()
    return replace(point, type=kind, write=write)


def _changes(point: PointShape, given: list[str]) -> dict[str, Any]:
    config = point_config(point, "", "", "")
    return {field: getattr(config, field) for key in given if key in FIELDS for field in FIELDS[key]}
