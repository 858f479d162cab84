"""devices.d: field devices and their points, from YAML and from tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.domain.document import Document, Mark, Mistakes, Path, Problem
from agent.domain.sample import POINT_NAME, DeviceConfig, PointConfig
from agent.files.effect import Claim, Effect, position
from agent.files.pointshape import PointShape, check_point, point_config
from agent.files.quantities import AnyScalar, mistake, shown
from agent.files.shape import Shape, in_order, read_units
from agent.files.words import InstanceName, PortName

AREA = "devices"
SEGMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAME_HINT = "use 1 to 64 of A-Z a-z 0-9 _ . - "


def _device_name(text: str) -> str:
    if not SEGMENT.fullmatch(text):
        raise mistake(f"{shown(text)}, not a device's name", NAME_HINT.strip())
    return text


def _point_name(text: str) -> str:
    if not POINT_NAME.fullmatch(text) or text.count("/") > 6:
        raise mistake(f"{shown(text)}, not a point's name", NAME_HINT + "and '/' between at most 7 parts")
    return text


PointName = Annotated[str, AfterValidator(_point_name)]


@dataclass(frozen=True, slots=True)
class DeviceShape(Shape):
    """A field device. Its points get its name in front: ``boiler/temp``."""

    driver: Annotated[InstanceName, Field(description="the APP instance that talks to it")]
    port: Annotated[PortName | None, Field(description="the gateway's port it hangs on, by its logical name")] = None
    address: Annotated[
        Mapping[str, AnyScalar], Field(max_length=32, description="where the driver finds it; the driver's own keys")
    ] = field(default_factory=dict)
    points: Annotated[Mapping[PointName, PointShape], Field(description="its points, by name")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class DevicesFile(Shape):
    """A file of devices.d."""

    devices: Annotated[
        Mapping[Annotated[str, AfterValidator(_device_name)], DeviceShape], Field(description="devices, by name")
    ]


@dataclass(frozen=True, slots=True)
class PointsOfDevice:
    """What a table adds: points for a device that a YAML file of the folder describes."""

    device: str
    points: tuple[PointConfig, ...]


@dataclass(frozen=True, slots=True)
class PointTableFile(Shape):
    """A table of devices.d after its rows have become mappings."""

    points: Mapping[PointName, PointShape]


def read_devices(document: Document) -> Effect:
    """The devices of a YAML file. Raises Mistakes with every mistake."""
    document = _points_may_be_bare(document)
    file, problems = read_units(document, DevicesFile, AREA, [("devices", "*"), ("devices", "*", "points", "*")])
    claims: list[Claim] = []
    devices: list[DeviceConfig] = []
    for name, device in (file.devices if file else {}).items():
        path: Path = ("devices", name)
        claims.append(Claim(f"device '{name}'", document.key_mark(path)))
        points = _read_points(document, device.points, (*path, "points"), name, problems)
        claims += [Claim(f"point '{point.name}'", mark) for point, mark in points]
        devices.append(
            DeviceConfig(
                name=name,
                driver=device.driver,
                port=device.port or "",
                address=tuple(device.address.items()),
                points=tuple(point for point, _ in points),
                source=position(document.source, document.key_mark(path)),
            )
        )
    if problems:
        raise Mistakes(in_order(problems))
    return Effect(document.source, tuple(devices), tuple(claims))


def read_device_table(document: Document, device: str) -> Effect:
    """The points of a table (see agent.files.table) for `device`, which a YAML file must describe."""
    if not SEGMENT.fullmatch(device):
        message = f"the file's name gives the device '{device}', which is not a device's name"
        raise Mistakes([document.problem((), f"{AREA}.bad_value", message, NAME_HINT.strip())])
    file, problems = read_units(document, PointTableFile, AREA, [("points", "*")])
    points = _read_points(document, file.points if file else {}, ("points",), device, problems)
    if problems:
        raise Mistakes(in_order(problems))
    claims = tuple(Claim(f"point '{point.name}'", mark) for point, mark in points)
    items = (PointsOfDevice(device, tuple(point for point, _ in points)),)
    return Effect(document.source, items, claims, needs=(Claim(f"device '{device}'", document.mark(())),))


def assemble_devices(effects: list[Effect]) -> tuple[DeviceConfig, ...]:
    """All devices, with the points that tables add."""
    devices: dict[str, DeviceConfig] = {}
    tables: list[PointsOfDevice] = []
    for effect in effects:
        for item in effect.items:
            if isinstance(item, DeviceConfig):
                devices[item.name] = item
            elif isinstance(item, PointsOfDevice):
                tables.append(item)
    for table in tables:
        if table.device in devices:
            device = devices[table.device]
            devices[table.device] = replace(device, points=(*device.points, *table.points))
    return tuple(devices.values())


def _points_may_be_bare(document: Document) -> Document:
    """`points: {temp: }` is a point with nothing but defaults, not a mistake."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("devices"), dict):
        return document
    devices = {}
    for name, device in data["devices"].items():
        if isinstance(device, dict) and isinstance(device.get("points"), dict):
            points = {point: {} if entry is None else entry for point, entry in device["points"].items()}
            devices[name] = {**device, "points": points}
        else:
            devices[name] = device
    return replace(document, data={**data, "devices": devices})


def _read_points(
    document: Document, points: Mapping[str, PointShape], path: Path, device: str, problems: list[Problem]
) -> list[tuple[PointConfig, Mark]]:
    read: list[tuple[PointConfig, Mark]] = []
    for name, point in points.items():
        here = (*path, name)

        def say(below: Path, what: str, message: str, hint: str, here: Path = here) -> None:
            problems.append(document.problem((*here, *below), f"{AREA}.{what}", message, hint))

        given = document.marks
        check_point(point, [key for key in PointShape.__dataclass_fields__ if (*here, key) in given], say)
        mark = document.key_mark(here)
        read.append((point_config(point, f"{device}/{name}", device, position(document.source, mark)), mark))
    return read
