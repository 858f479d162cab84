"""`/v1/gateway`: the machine and how it does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.http.messages import Response, json_response

FRESH_S = 1.0
T = TypeVar("T", bound=msgspec.Struct)


class GatewayFacts(msgspec.Struct, frozen=True):
    """What does not change."""

    model: str = ""
    serial: str = ""
    os: str = ""
    kernel: str = ""
    architecture: str = ""
    cpus: int = 0
    mem_bytes: int = 0
    boot_ms: int = 0
    agent_version: str = ""


class GatewayUsage(msgspec.Struct, frozen=True):
    """Not older than a second. `temperature_c` is null where nothing measures it."""

    cpu_percent: float = 0.0
    mem_used_bytes: int = 0
    mem_bytes: int = 0
    disk_free_bytes: int = 0
    disk_bytes: int = 0
    load1: float = 0.0
    temperature_c: float | None = None


class GatewayBody(msgspec.Struct, frozen=True):
    """`thresholds` are the administrator's; `over` names those that are crossed now."""

    facts: GatewayFacts
    usage: GatewayUsage
    uptime_s: float
    thresholds: dict[str, float]
    over: tuple[str, ...]


class GatewayCategory:
    """Needs `gateway: true`. However many ask, the machine is measured at most once a second."""

    def __init__(self, services: EsdkServices) -> None:
        self._host = services.host
        self._clock = services.clock
        self._thresholds = services.thresholds
        self._facts: GatewayFacts | None = None
        self._usage = GatewayUsage()
        self._measured_s = float("-inf")
        self._measuring = asyncio.Lock()

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "GET", "/v1/gateway", "The machine: model, versions, load, thresholds", self.show,
                permission="gateway", answer=GatewayBody, errors=(504,),
            )
        ]  # fmt: skip

    async def show(self, _call: Call) -> Response:
        """Facts and usage."""
        async with self._measuring:
            if self._facts is None:
                self._facts = _pick(GatewayFacts, await self._host.facts())
            if self._clock.monotonic() - self._measured_s >= FRESH_S:
                self._usage = _pick(GatewayUsage, await self._host.usage())
                self._measured_s = self._clock.monotonic()
        uptime_s = max(0.0, (self._clock.now_ms() - self._facts.boot_ms) / 1000)
        return json_response(
            GatewayBody(self._facts, self._usage, uptime_s, dict(self._thresholds), over(self._usage, self._thresholds))
        )


def over(usage: GatewayUsage, thresholds: Mapping[str, float]) -> tuple[str, ...]:
    """The thresholds that are crossed; `disk_free_percent` is a lower bound, all others upper ones."""
    measured: dict[str, float | None] = {
        "cpu_percent": usage.cpu_percent,
        "mem_used_percent": _percent(usage.mem_used_bytes, usage.mem_bytes),
        "temperature_c": usage.temperature_c,
    }
    crossed = [name for name, value in measured.items() if value is not None and value > thresholds.get(name, 1e9)]
    free = _percent(usage.disk_free_bytes, usage.disk_bytes)
    if free is not None and free < thresholds.get("disk_free_percent", 0.0):
        crossed.append("disk_free_percent")
    return tuple(crossed)


def _percent(part: int, whole: int) -> float | None:
    return 100.0 * part / whole if whole else None


def _pick(kind: type[T], found: Mapping[str, Any]) -> T:
    return msgspec.convert({name: found[name] for name in kind.__struct_fields__ if name in found}, kind)
