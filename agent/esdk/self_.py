"""`/v1/self`: what the APP is, may and uses; its heartbeat."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from agent.domain.grants import Grants
from agent.errors import Malformed
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.http.messages import Response, json_response


class PointGrants(msgspec.Struct, frozen=True):
    """MQTT filters."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    publish: tuple[str, ...]


class GrantsBody(msgspec.Struct, frozen=True):
    """As in the manifest; only what this gateway offers."""

    points: PointGrants
    alarms: bool
    gateway: bool
    uplink: tuple[str, ...]


class ServiceLimits(msgspec.Struct, frozen=True):
    """0: no limit."""

    cpus: float
    mem_bytes: int
    pids: int


class Quotas(msgspec.Struct, frozen=True):
    """Rates of this instance at this socket."""

    requests_per_s: float
    samples_per_s: float
    events_per_s: float
    log_lines_per_s: float
    streams: int


class SelfBody(msgspec.Struct, frozen=True):
    """`use` counts requests, samples and refusals since the socket was opened, and has `services`: what the kernel
    counts of each. `heartbeat_age_s` is by service, without those that never sent one."""

    instance: str
    version: str
    release: str
    services: tuple[str, ...]
    grants: GrantsBody
    limits: dict[str, ServiceLimits]
    quotas: Quotas
    use: dict[str, Any]
    heartbeat_age_s: dict[str, float]


class Heartbeat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`service` may be left out by an APP of one service. `next_within_s` is a promise: when no other heartbeat comes
    within so many seconds, the gateway restarts the service. 0 or left out: no promise."""

    service: str = ""
    next_within_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0


class HeartbeatBody(msgspec.Struct, frozen=True):
    """Who was noted."""

    service: str


class SelfCategory:
    """Always allowed."""

    def __init__(self, services: EsdkServices) -> None:
        self._use_of = services.use_of

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint("GET", "/v1/self", "What this APP is, may do and uses", self.show, answer=SelfBody),
            Endpoint(
                "POST", "/v1/self/heartbeat", "Say that a service is alive, and when it will say so again", self.beat,
                body=Heartbeat, answer=HeartbeatBody,
            ),
        ]  # fmt: skip

    async def show(self, call: Call) -> Response:
        """What the kernel counts is read now; the rest is known."""
        session = call.session
        view, quota, meter = session.view, session.meter.quota, session.meter
        use = {**meter.used, "streams": meter.streams, **await self._use_of(view.instance)}
        limits = {
            name: ServiceLimits(live.nano_cpus / 1e9, live.mem_bytes, live.pids) for name, live in view.limits.items()
        }
        quotas = Quotas(
            quota.requests_per_s, quota.samples_per_s, quota.events_per_s, quota.log_lines_per_s, quota.streams
        )
        return json_response(
            SelfBody(
                view.instance, view.version, view.release, view.services, describe_grants(view.grants), limits, quotas,
                use, session.heartbeat_ages_s(),
            )
        )  # fmt: skip

    def beat(self, call: Call) -> Response:
        """Note the time."""
        services = call.session.view.services
        service = call.body.service or (services[0] if len(services) == 1 else "")
        if service not in services:
            raise Malformed(
                "esdk.unknown_service",
                f"'{service[:64]}' is not a service of this APP",
                hint="one of: " + ", ".join(services),
                field="service",
            )
        call.session.beat(service, call.body.next_within_s)
        return json_response(HeartbeatBody(service))


def describe_grants(grants: Grants) -> GrantsBody:
    """Grants in the manifest's own words."""
    return GrantsBody(
        PointGrants(grants.points_read, grants.points_write, grants.points_publish),
        grants.alarms,
        grants.gateway,
        tuple(each.value for each in grants.uplink),
    )
