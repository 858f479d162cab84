"""The socket as APPs meet it: real containers of the real engine, real processes, the verifier that reads cgroups."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.domain.appview import AppView
from agent.esdk.identity import CgroupVerifier
from deploy.lab.engine import docker
from tests.fakes.esdk_gateway import DRIVER, GUARD, EsdkGateway, esdk_gateway
from tests.fakes.http_shop import until

SDK = Path(__file__).parents[2] / "apps" / "sdk"
AS_AN_APP = ["--init", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "1000:1000"]
AS_AN_APP += [
    "--security-opt",
    "no-new-privileges",
    "--pids-limit",
    "64",
    "--memory",
    "64m",
    "--env",
    "PYTHONPATH=/sdk",
]


class Box:
    """Containers of this test's gateway, and whose each is."""

    def __init__(self, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self.instances: dict[str, str] = {}

    def run(self, instance: str, folder: Path) -> str:
        """A container that idles, with the instance's folder as its eSDK; returns its id."""
        name = f"{self.gateway_id}-{instance}-{len(self.instances)}"
        mounts = ["--volume", f"{folder}:/run/ec:ro", "--volume", f"{SDK}:/sdk:ro"]
        label = ["--label", f"ec.gateway={self.gateway_id}", "--name", name]
        made = docker("run", "--detach", *label, *mounts, *AS_AN_APP, "ec/python:3", "sleep", "600").strip()
        self.instances[made] = instance
        return made

    def python(self, container: str, code: str) -> str:
        """Run Python in it with `client` at hand; what it prints."""
        head = "from ecsdk import Client, EsdkError\nclient = Client(timeout_s=5, patience_s=5)\n"
        return docker("exec", container, "python3", "-c", head + code).strip()


async def off(call: Any, *arguments: Any) -> Any:
    """In a thread: the sockets are served on this loop."""
    return await asyncio.to_thread(call, *arguments)


@pytest.fixture
def box(gateway_id: str) -> Box:
    return Box(gateway_id)


@pytest.fixture
async def gateway(box: Box, short_dir: Path) -> AsyncIterator[EsdkGateway]:
    verifier = CgroupVerifier(box.instances.get, patience_s=2.0)
    async with esdk_gateway(short_dir, verifier=verifier) as opened:
        await opened.open(DRIVER, GUARD)
        yield opened
    verifier.close()


async def test_an_app_without_network_root_or_write_reaches_its_gateway(gateway: EsdkGateway, box: Box) -> None:
    driver = await off(box.run, "modbus-1", gateway.sockets.folder("modbus-1"))
    code = "print(client.self_()['instance'], client.points.send([('boiler/temp', 21.5)]), client.devices()[0].name)"
    assert await off(box.python, driver, code) == "modbus-1 1 boiler"
    latest = gateway.plane.table.latest("boiler/temp")
    assert latest is not None
    assert latest.value == 21.5


async def test_another_apps_socket_is_closed_to_it_even_when_it_can_see_it(gateway: EsdkGateway, box: Box) -> None:
    # As if a technician had mounted the wrong folder: the guard's container holds the driver's socket.
    thief = await off(box.run, "guard", gateway.sockets.folder("modbus-1"))
    code = "try:\n client.points.send([('boiler/temp', 99.0)])\nexcept EsdkError as e:\n print(e.status, e.code)"
    assert await off(box.python, thief, code) == "401 esdk.foreign_process"
    assert gateway.plane.table.latest("boiler/temp") is None
    assert gateway.sockets.stats()["modbus-1"]["refused_peers"] == 1


async def test_a_container_the_gateway_does_not_know_is_refused(gateway: EsdkGateway, box: Box) -> None:
    stranger = await off(box.run, "modbus-1", gateway.sockets.folder("modbus-1"))
    box.instances.clear()
    code = "try:\n client.self_()\nexcept EsdkError as e:\n print(e.status, e.code)"
    assert await off(box.python, stranger, code) == "401 esdk.foreign_process"


async def test_a_process_on_the_host_is_refused_root_or_not(gateway: EsdkGateway) -> None:
    curl = [sys.executable, "-c", _ASK, str(gateway.sockets.path("modbus-1"))]
    done = await off(lambda: subprocess.run(curl, capture_output=True, text=True, check=True, timeout=30))
    status, problem = done.stdout.split("\n", 1)
    assert status == "401"
    assert json.loads(problem)["code"] == "esdk.foreign_process"


async def test_the_socket_outlives_the_agent_for_a_running_container(gateway: EsdkGateway, box: Box) -> None:
    guard = await off(box.run, "guard", gateway.sockets.folder("guard"))
    code = (
        "stream = client.config.watch()\nseen = []\n"
        "for config in stream:\n seen.append(config['limit'])\n print(seen, flush=True)\n if len(seen) == 2: break"
    )
    reading = asyncio.create_task(off(box.python, guard, code))
    await until(lambda: _streams(gateway, "guard") == 1, within_s=20)
    await gateway.sockets.close("guard")
    await gateway.open(replace(GUARD, config={"limit": 7.0}))
    assert (await reading).splitlines()[-1] == "[6.5, 7.0]"


async def test_a_write_travels_from_one_container_to_another_and_back(gateway: EsdkGateway, box: Box) -> None:
    driver = await off(box.run, "modbus-1", gateway.sockets.folder("modbus-1"))
    guard = await off(box.run, "guard", gateway.sockets.folder("guard"))
    serve = (
        "for command in client.commands.watch():\n"
        " client.commands.respond(command, lambda c: f'read back {c.value}')\n print(command.point)\n break"
    )
    serving = asyncio.create_task(off(box.python, driver, serve))
    await until(lambda: gateway.plane.writes.listening("modbus-1"), within_s=20)
    assert await off(box.python, guard, "print(client.points.write('boiler/valve', 30).message)") == "read back 30"
    assert await serving == "boiler/valve"


async def test_thirty_sockets_open_and_serve(gateway: EsdkGateway) -> None:
    await gateway.open(*(AppView(f"app-{number}", "", "1", ("main",)) for number in range(30)))
    assert len(gateway.sockets.instances()) == 32


def _streams(gateway: EsdkGateway, instance: str) -> int:
    session = gateway.sockets.session(instance)
    return session.meter.streams if session is not None else 0


_ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /v1/self HTTP/1.1\\r\\n\\r\\n")
answer = b""
while piece := s.recv(65536):
    answer += piece
head, _, body = answer.decode().partition("\\r\\n\\r\\n")
print(head.split(" ")[1])
print(body)
"""
