"""`/v1/devices`: the field devices this APP drives, as their files say; what the APP says of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec

from agent.data.devices import DeviceTable
from agent.data.points import PointTable
from agent.domain.sample import DeviceConfig, PointConfig, Scalar
from agent.errors import GatewayError, Refused
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.esdk.session import not_granted
from agent.http.messages import Response, Sink, Stream, json_response

MAX_REPORTS = 256


class Limits(msgspec.Struct, frozen=True):
    """What may be written."""

    min: float | None
    max: float | None


class Safe(msgspec.Struct, frozen=True):
    """What the driver writes after `after_s` seconds without a write."""

    value: Scalar
    after_s: float


class DevicePoint(msgspec.Struct, frozen=True):
    """A point of a device. `address` holds the driver's own keys."""

    name: str
    address: dict[str, Scalar]
    type: str
    unit: str
    range: tuple[float, float] | None
    resolution: float | None
    writable: bool
    limits: Limits
    safe: Safe | None


class DeviceBody(msgspec.Struct, frozen=True):
    """A device. `online` is null until the driver has reported; `since` is epoch ms."""

    name: str
    port: str
    address: dict[str, Scalar]
    points: tuple[DevicePoint, ...]
    online: bool | None
    since: int
    stats: dict[str, float]


class DevicesBody(msgspec.Struct, frozen=True):
    """All devices whose `driver` is this APP. `version` rises when the files change."""

    version: int
    devices: tuple[DeviceBody, ...]


class DeviceReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stats`: the driver's own counters, at most 32 numbers (requests, errors, response_ms ...)."""

    device: str
    online: bool
    stats: dict[str, float] = {}


class Reported(msgspec.Struct, frozen=True):
    """How many reports were taken."""

    reports: int


ReportBody = DeviceReport | Annotated[list[DeviceReport], msgspec.Meta(max_length=MAX_REPORTS)]


class DevicesCategory:
    """For the APP named as `driver`: it sees its own devices and no others."""

    def __init__(self, services: EsdkServices) -> None:
        self._table = services.devices
        self._points = services.points
        self._watchers: set[asyncio.Event] = set()
        services.devices.on_configured.append(self._tell)
        services.points.on_configured.append(lambda _state: self._tell())

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "GET", "/v1/devices", "The devices this APP drives, with points and addresses", self.show,
                answer=DevicesBody, needs="to be named as `driver` in a device's file",
            ),
            Endpoint(
                "GET", "/v1/devices/stream", "The same now and after each change", self.watch,
                events={"devices": DevicesBody}, needs="to be named as `driver` in a device's file",
            ),
            Endpoint(
                "POST", "/v1/devices/report", "Say whether a device answers, and its statistics", self.report,
                body=ReportBody, answer=Reported, needs="to be the device's driver",
            ),
        ]  # fmt: skip

    def show(self, call: Call) -> Response:
        """Answer from memory."""
        return json_response(self._describe(call.session.instance))

    def watch(self, call: Call) -> Stream:
        """One event at once, and one whenever this APP's own part of the files changes."""
        changed = asyncio.Event()
        self._watchers.add(changed)

        async def feed(sink: Sink) -> None:
            told: list[object] | None = None
            while True:
                changed.clear()
                mine = self._files_say(call.session.instance)
                if mine != told:
                    told = mine
                    sink.send("devices", msgspec.json.encode(self._describe(call.session.instance)))
                await sink.ready()
                await changed.wait()

        return Stream(feed, lambda: self._watchers.discard(changed))

    def report(self, call: Call) -> Response:
        """All or nothing: a device that is not this APP's refuses the whole list."""
        reports: list[DeviceReport] = [call.body] if isinstance(call.body, DeviceReport) else call.body
        mine = {device.name for device in self._table.devices(call.session.instance)}
        for report in reports:
            if report.device not in mine:
                raise _not_driver(report.device)
        for report in reports:
            try:
                self._table.report(call.session.instance, report.device, report.online, report.stats)
            except Refused:
                raise _not_driver(report.device) from None
        return json_response(Reported(len(reports)))

    def _tell(self) -> None:
        for event in self._watchers:
            event.set()

    def _files_say(self, instance: str) -> list[object]:
        """What makes a change: the devices and their points' settings, not what the driver reports."""
        return [
            (device, [self._points.config(point.name) for point in device.points])
            for device in self._table.devices(instance)
        ]

    def _describe(self, instance: str) -> DevicesBody:
        return DevicesBody(
            self._table.version,
            tuple(describe_device(self._table, self._points, each) for each in self._table.devices(instance)),
        )


def describe_device(table: DeviceTable, points: PointTable, device: DeviceConfig) -> DeviceBody:
    """A device with its points as overridden by ``points.d``, and what its driver last said."""
    status: dict[str, Any] = table.status(device.name)
    return DeviceBody(
        device.name,
        device.port,
        dict(device.address),
        tuple(describe_point(points.config(point.name) or point) for point in device.points),
        status["online"],
        status["changed_ms"],
        {name: float(value) for name, value in status["stats"].items()},
    )


def describe_point(config: PointConfig) -> DevicePoint:
    """What a driver needs of a point."""
    safe = None if config.safe is None else Safe(config.safe.value, config.safe.after_s)
    return DevicePoint(
        config.name,
        dict(config.address),
        config.type,
        config.unit,
        config.range,
        config.resolution,
        config.writable,
        Limits(config.limits.min, config.limits.max),
        safe,
    )


def _not_driver(device: str) -> GatewayError:
    refusal = not_granted("devices", f"report the device '{device[:100]}'")
    refusal.hint = "name this APP as `driver` in the device's file"
    return refusal
