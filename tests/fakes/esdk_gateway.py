"""A gateway as APPs see it: the real sockets and data plane over an outbox in memory, any process welcome."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.data.plane import DataPlane, make_plane
from agent.domain.appview import AppView
from agent.domain.container import Live
from agent.domain.grants import Grants
from agent.domain.priority import Priority
from agent.domain.sample import DeviceConfig, PointConfig, SafeValue, WriteLimits
from agent.errors import Unauthorised
from agent.esdk.applog import AppLogs
from agent.esdk.desk import UplinkDesk
from agent.esdk.identity import Verifier
from agent.esdk.quotas import Quota
from agent.esdk.services import EsdkServices
from agent.esdk.sockets import Sockets
from agent.host.clock import SystemClock
from agent.http.limits import Limits
from agent.http.messages import Peer
from tests.fakes.outbox import FakeAlarmStore, FakeOutboxStore
from tests.fakes.plane import FakeHost
from tests.fakes.raw_http import RawClient, problem_of

VALVE = PointConfig(
    "boiler/valve", "boiler", "modbus-1", "int", "%", writable=True, limits=WriteLimits(0, 100),
    safe=SafeValue(0, 5.0), address=(("register", 10), ("table", "holding")),
)  # fmt: skip
TEMP = PointConfig("boiler/temp", "boiler", "modbus-1", "float", "°C", (0.0, 150.0), 0.1, address=(("register", 0),))
BOILER = DeviceConfig("boiler", "modbus-1", "", (("host", "198.51.100.2"), ("port", 5020)), (TEMP, VALVE))
METER = DeviceConfig("meter", "other", points=(PointConfig("meter/kwh", "meter", "other"),))

DRIVER = AppView("modbus-1", "a" * 64, "1.0.0", ("driver",), Grants(alarms=True))
GUARD = AppView(
    "guard", "b" * 64, "1.4.0", ("guard",),
    Grants(
        points_read=("boiler/#",), points_write=("boiler/valve",), points_publish=("guard/#", "pump/speed"),
        alarms=True, gateway=True, uplink=(Priority.CRITICAL, Priority.NORMAL),
    ),
    {"limit": 6.5}, {"guard": Live(500_000_000, 67_108_864, 64)},
)  # fmt: skip
NOBODY = AppView("nobody", "c" * 64, "0.1.0", ("main",))


class AnyProcess:
    """A verifier that lets everybody in, but for the uids it was told to refuse."""

    def __init__(self, *refused_uids: int) -> None:
        self.refused_uids = refused_uids
        self.asked: list[tuple[str, Peer]] = []

    async def verify(self, instance: str, peer: Peer) -> str:
        self.asked.append((instance, peer))
        if peer.uid in self.refused_uids:
            raise Unauthorised("esdk.foreign_process", "not yours", hint="use your own")
        return ""


class EsdkGateway:
    """What a test looks at."""

    def __init__(self, root: Path, plane: DataPlane, store: FakeOutboxStore, sockets: Sockets, parts: Any) -> None:
        self.root, self.plane, self.store, self.sockets = root, plane, store, sockets
        self.desk: UplinkDesk = parts[0]
        self.logs: AppLogs = parts[1]
        self.host: FakeHost = parts[2]
        self.views: dict[str, AppView] = {}

    async def open(self, *views: AppView) -> None:
        """Open sockets, and tell the data plane who publishes what."""
        for view in views:
            self.views[view.instance] = view
            await self.sockets.open(view)
        self.plane.table.set_publishers({name: view.grants.points_publish for name, view in self.views.items()})

    async def app(self, instance: str) -> Caller:
        """A connection of the instance's."""
        return Caller(await RawClient.connect(self.sockets.path(instance)))


class Caller:
    """Requests in JSON over one connection."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and parsed body; a refusal is checked to be a problem document."""
        payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(payload)}\r\n\r\n"
        answer = await self.raw.ask(head.encode() + payload)
        return answer[0], problem_of(answer) if answer[0] >= 400 else json.loads(answer[2])

    async def get(self, path: str) -> tuple[int, Any]:
        return await self.ask("GET", path)

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.ask("POST", path, body)

    async def open_stream(self, path: str) -> None:
        """Ask for a stream and read its head."""
        self.raw.send(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        head = await self.raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head

    async def event(self) -> tuple[str, Any]:
        """The next event's name and data; heartbeats are skipped."""
        while True:
            frame = (await self.raw.reader.readuntil(b"\n\n")).decode().strip()
            if not frame.startswith(":"):
                fields = dict(line.split(": ", 1) for line in frame.split("\n"))
                return fields["event"], json.loads(fields["data"])

    async def close(self) -> None:
        await self.raw.close()


async def some_use(instance: str) -> Mapping[str, Any]:
    """What the daemon tells of an instance's services."""
    return {"services": {instance: {"mem_bytes": 1234}}}


@asynccontextmanager
async def esdk_gateway(
    root: Path, *, verifier: Verifier | None = None, quota: Quota | None = None, limits: Limits | None = None
) -> AsyncIterator[EsdkGateway]:
    """The gateway with the boiler of BOILER configured and no APP's socket open yet."""
    store, clock = FakeOutboxStore(), SystemClock(0)
    plane = make_plane(store, FakeAlarmStore(), clock)
    await plane.start()
    plane.configure([BOILER, METER], (), ())
    desk, logs, host = UplinkDesk(plane.outbox.add, clock), AppLogs(root / "logs"), FakeHost()
    host.now = {"cpu_percent": 97.5}
    services = EsdkServices(
        plane.ingest, plane.table, plane.streams, plane.writes, plane.alarms, plane.devices, desk, host, clock, logs,
        use_of=some_use, thresholds={"cpu_percent": 95.0},
    )  # fmt: skip
    sockets = Sockets(root / "s", services, verifier or AnyProcess(), quota=quota, limits=limits)
    yield EsdkGateway(root, plane, store, sockets, (desk, logs, host))
    await sockets.close_all()
    await logs.close()
    await plane.close()
