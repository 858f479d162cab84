"""`network: none` reaches nothing, tried from inside; what `outbound` reaches, and what it does not.

Traffic goes to loopback, to bridges of containers, and to links that the test made: a bridge of its own stands in for the
host's address in its network, a namespace for a device outside. The machine's own links are never spoken to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from agent.domain.instantiate import AppSpec, Place, Site, instantiate
from agent.domain.policy import Policy
from agent.domain.release import make_release
from agent.domain.values import layer_values
from agent.engine.docker import DockerEngine
from agent.engine.hostrules import HostRules
from agent.host.premises import read_room
from agent.host.routes import read_routes
from deploy.lab import Plant
from tests.unit.manifest.kit import manifest_of

PROBE = (Path(__file__).parent / "probe_inside.py").read_text()
METADATA = "169.254.169.254"
LISTEN = "import http.server as h; h.ThreadingHTTPServer(('0.0.0.0', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
STAY = "import time, signal, sys; signal.signal(15, lambda *_: sys.exit()); time.sleep(600)"
LIMITS = "mem_limit: 64m, pids_limit: 200"


def app(network: str, *services: str) -> str:
    """A manifest: the first service stays, the others serve HTTP on 8080."""
    rows = [
        f"  {name}: {{image: 'ec/python:3', {LIMITS}, command: ['python3', '-c', {json.dumps(STAY if n == 0 else LISTEN)}]}}"
        for n, name in enumerate(services)
    ]
    return f"name: app\nx-ec: {{network: {network}}}\nservices:\n" + "\n".join(rows) + "\n"


@dataclass
class Ground:
    """The engine with this gateway's rules, and the links of the test."""

    gateway: str
    engine: DockerEngine
    rules: HostRules
    folder: Path
    image: str
    specs: list[AppSpec] = field(default_factory=list)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)

    async def install(self, instance: str, text: str) -> None:
        """What the agent would make of a manifest, made and started."""
        manifest = manifest_of(text)
        esdk = self.folder / instance
        esdk.mkdir()
        release = make_release(manifest, dict.fromkeys(manifest.images, self.image))
        place = Place(self.gateway, self.gateway, "", str(esdk), "", Policy())
        spec, problems = instantiate(release, Site(instance, layer_values(manifest, [])[0]), place)
        assert spec is not None, problems
        for network in spec.networks:
            await self.engine.create_network(network)
        for container in spec.containers:
            made = await self.engine.create(container)
            await self.engine.start(made)
            self.ids[instance, container.service] = made
        self.specs.append(spec)

    async def inside(self, instance: str, service: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """What of `wanted` is reached from a container."""
        command = ["docker", "exec", "-i", self.ids[instance, service], "python3", "-c", PROBE]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            out, errors = await process.communicate(json.dumps(wanted).encode())
        assert process.returncode == 0, errors.decode()
        reached: dict[str, Any] = json.loads(out)
        return reached

    async def address(self, instance: str, service: str) -> str:
        state = await self.engine.inspect(self.ids[instance, service])
        assert state is not None
        return state.address

    async def gateway_of(self, instance: str) -> str:
        """The host's address on the bridge of an instance."""
        (network,) = await self.engine.networks(instance)
        return str(IPv4Network(network.subnet)[1])


@pytest.fixture
async def ground(engine_socket: Path, gateway_id: str, tmp_path: Path) -> AsyncIterator[Ground]:
    """An engine adapter with host rules of its own."""
    rules = HostRules(f"e{gateway_id[-3:]}-")
    engine = DockerEngine(str(engine_socket), gateway_id, pool="10.214.16.0/20", routes=read_routes, host_rules=rules)
    image = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Id}}", "ec/python:3"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    made = Ground(gateway_id, engine, rules, tmp_path, image.stdout.strip())
    yield made
    for state in await engine.containers():
        await engine.remove(state.id)
    for network in await engine.networks():
        await engine.remove_network(network.name)
    engine.close()
    await rules.clear()


@dataclass(frozen=True)
class Host:
    """The host as APPs might meet it: listeners on all addresses, and addresses of its own that lead nowhere else."""

    tcp: int
    udp: int
    link: str


@pytest.fixture
def host() -> Iterator[Host]:
    """Listeners on every address, and a bridge that stands in for a network card."""
    name = f"ecl{os.getpid() % 100_000}"
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        _ip("link", "add", name, "type", "bridge")
        stack.callback(_ip, "link", "del", name)
        for address in ("203.0.113.77/32", f"{METADATA}/32"):
            _ip("addr", "add", address, "dev", name)
        _ip("link", "set", name, "up")
        server = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        echo = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        echo.bind(("0.0.0.0", 0))
        echo.settimeout(0.2)
        server.settimeout(0.2)
        threads = [
            threading.Thread(target=work, args=(sock, ended)) for work, sock in ((_accept, server), (_echo, echo))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            stack.callback(thread.join)
        stack.callback(ended.set)
        yield Host(server.getsockname()[1], echo.getsockname()[1], "203.0.113.77")


def _accept(server: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            server.accept()[0].close()


def _echo(sock: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            data, sender = sock.recvfrom(64)
            sock.sendto(data, sender)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


async def everything(host: Host, addresses: list[str]) -> dict[str, Any]:
    """Every port of the host that listens, on each of these addresses, and every other way that there is."""
    listening = (await asyncio.to_thread(read_room, Path("/"))).listening
    tcp = {host.tcp, 22, 80, 2375, *(port for port, protocol, _ in listening if protocol == "tcp")}
    udp = {host.udp, 53, *(port for port, protocol, _ in listening if protocol == "udp")}
    return {
        "tcp": [[address, port] for address in addresses for port in sorted(tcp)],
        "udp": [[address, port] for address in addresses for port in sorted(udp)],
        "ping": addresses,
        "names": ["host.docker.internal", "gateway.docker.internal", "example.com"],
        "resolve": [["127.0.0.11", "example.com"], [addresses[0], "example.com"]],
    }


@pytest.fixture
async def neighbours(ground: Ground) -> Ground:
    """Two other APPs that serve on 8080: one open, one shut in."""
    await asyncio.gather(
        ground.install("open", app("outbound", "main", "web")), ground.install("shut", app("none", "main", "web"))
    )
    return ground


async def test_several_services_meet_each_other_and_nothing_else(neighbours: Ground, host: Host, plant: Plant) -> None:
    ground = neighbours
    await ground.install("pump", app("none", "guard", "web"))
    mine = {await ground.gateway_of("pump")}
    others = {await ground.gateway_of(name) for name in ("open", "shut")}
    strangers = {await ground.address(name, "web") for name in ("open", "shut")}
    addresses = [*mine, host.link, METADATA, plant.host_address, plant.address, "172.17.0.1", *others, *strangers]
    wanted = await everything(host, addresses)
    wanted["tcp"] += [[address, 8080] for address in strangers]
    wanted["names"] += ["web", "guard"]
    web = await ground.address("pump", "web")
    wanted["tcp"] += [[web, 8080], ["web", 8080]]
    wanted["ping"].append(web)
    reached = await ground.inside("pump", "guard", wanted)
    assert reached == {
        "tcp": [[web, 8080], ["web", 8080]],
        "udp": [],
        "ping": [web],
        "names": ["web", "guard"],
        "resolve": [],
        "links": reached["links"],
        "ipv6": [],
    }
    assert len(reached["links"]) == 2
    # From outside nobody comes in either: not a neighbour, not one that the host forwards for.
    into = {"tcp": [[web, 8080]], "ping": [web]}
    for instance in ("open", "shut"):
        found = await ground.inside(instance, "main", into)
        assert (found["tcp"], found["ping"]) == ([], []), instance
    # Not even the host by its address: what the container answers is dropped. The agent's probes enter its namespace.
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.open_connection(web, 8080)


async def test_without_the_hosts_rules_an_internal_network_reaches_the_host_and_with_them_again_nothing(
    ground: Ground, host: Host
) -> None:
    await ground.install("pump", app("none", "guard", "web"))
    gateway = await ground.gateway_of("pump")
    wanted = {"tcp": [[gateway, host.tcp]], "udp": [[gateway, host.udp]], "ping": [gateway]}

    async def reached() -> bool:
        found = await ground.inside("pump", "guard", wanted)
        return any((found["tcp"], found["udp"], found["ping"]))

    assert not await reached()
    await ground.rules.clear()
    assert await reached(), "without the rules an internal network reaches the host: else this test proves nothing"
    await ground.engine.assure_isolation()
    assert not await reached()
    await ground.engine.remove_network("nothing-of-that-name")  # another APP goes: the rules are not its own
    assert not await reached()


async def test_one_service_alone_has_no_network_at_all(neighbours: Ground, host: Host, plant: Plant) -> None:
    ground = neighbours
    await ground.install("pump", app("none", "guard"))
    strangers = [await ground.address(name, "web") for name in ("open", "shut")]
    gateways = [await ground.gateway_of(name) for name in ("open", "shut")]
    addresses = [host.link, METADATA, plant.host_address, plant.address, "172.17.0.1", *gateways, *strangers]
    wanted = await everything(host, addresses)
    wanted["tcp"] += [[address, 8080] for address in strangers]
    reached = await ground.inside("pump", "guard", wanted)
    assert reached == {
        "tcp": [], "udp": [], "ping": [], "names": [], "resolve": [], "links": ["lo"], "ipv6": []
    }  # fmt: skip


async def test_outbound_reaches_out_and_the_host_but_no_other_app(
    neighbours: Ground, host: Host, plant: Plant, tmp_path: Path
) -> None:
    ground = neighbours
    serve = "import http.server as h; h.HTTPServer(('0.0.0.0', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
    plant.run("device", ["python3", "-c", serve], tmp_path / "device.log")
    await ground.install("pump", app("outbound", "guard", "web"))
    web = await ground.address("pump", "web")
    strangers = [await ground.address(name, "web") for name in ("open", "shut")]
    mine = await ground.gateway_of("pump")
    wanted: dict[str, Any] = {
        "tcp": [[plant.address, 8080], [web, 8080], [mine, host.tcp], *([each, 8080] for each in strangers)],
        "udp": [[mine, host.udp]],
        "ping": [plant.address, mine, *strangers],
    }
    async with asyncio.timeout(20):
        while [plant.address, 8080] not in (reached := await ground.inside("pump", "guard", wanted))["tcp"]:
            await asyncio.sleep(0.2)
    # The contract shuts an outbound APP off from other APPs by bridges of their own, and not from the gateway's own ports.
    assert reached["tcp"] == [[plant.address, 8080], [web, 8080], [mine, host.tcp]]
    assert reached["udp"] == [[mine, host.udp]]
    assert reached["ping"] == [plant.address, mine]


async def test_nothing_of_an_app_is_left_on_the_host_and_the_rules_wait_for_the_next(ground: Ground) -> None:
    await ground.install("pump", app("none", "guard", "web"))
    bridge = ground.rules.bridge(ground.specs[0].networks[0].name, isolated=True)
    assert Path(f"/sys/class/net/{bridge}").exists()
    for state in await ground.engine.containers():
        await ground.engine.remove(state.id)
    await ground.engine.remove_network(ground.specs[0].networks[0].name)
    assert not Path(f"/sys/class/net/{bridge}").exists()
    # A new agent, which knows nothing, puts nothing back where nothing is isolated, and finds them standing.
    assert await ground.rules.assure() == 0
