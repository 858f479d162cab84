"""What the contract suite needs of an engine, the fake and the real one alike."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from agent.domain.container import ContainerSpec, ContainerState, Health
from agent.engine.docker import DockerEngine
from agent.engine.hostrules import HostRules
from agent.ports import Engine, EngineEvent
from tests.fakes.engine import FakeEngine
from tests.fakes.images import FakeImages

LIVE_FOREVER = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


class Rig(Protocol):
    """An engine and what happens to engines."""

    name: str
    gateway: str
    image: str
    engine: Engine

    async def crash(self, state: ContainerState) -> None: ...
    async def pause(self, state: ContainerState) -> None: ...
    async def make_unhealthy(self, state: ContainerState) -> None: ...
    async def remove_behind_its_back(self, state: ContainerState) -> None: ...
    async def plug(self, state: ContainerState, network: str, *, off: bool = False) -> None: ...
    async def bend(self, state: ContainerState, *limit: str) -> None: ...
    async def lose_bridge(self, bridge: str) -> None: ...
    async def take_name(self, kind: str, name: str) -> None: ...
    async def drop(self) -> None: ...
    async def restore(self) -> None: ...


class FakeRig:
    """The fake under test."""

    name = "fake"
    gateway = "gw-fake"
    image = "ec-test/busybox:engine"

    def __init__(self) -> None:
        images = FakeImages()
        images.add(self.image)
        self.fake = FakeEngine(self.gateway, images)
        self.engine: Engine = self.fake

    async def crash(self, state: ContainerState) -> None:
        self.fake.crash(state.instance, state.service, 137)

    async def pause(self, state: ContainerState) -> None:
        self.fake.pause(state.instance, state.service)

    async def make_unhealthy(self, state: ContainerState) -> None:
        self.fake.become(state.instance, state.service, Health.UNHEALTHY)

    async def remove_behind_its_back(self, state: ContainerState) -> None:
        self.fake.vanish(state.instance, state.service)

    async def plug(self, state: ContainerState, network: str, *, off: bool = False) -> None:
        self.fake.plug(state.instance, state.service, network, off=off)

    async def bend(self, state: ContainerState, *limit: str) -> None:
        self.fake.bend(state.instance, state.service)

    async def lose_bridge(self, bridge: str) -> None:
        self.fake.bridges.lose(bridge.removeprefix("br-"))

    async def take_name(self, kind: str, name: str) -> None:
        self.fake.take_name(name)

    async def drop(self) -> None:
        self.fake.drop()

    async def restore(self) -> None:
        self.fake.restore()


class RealRig:
    """A Docker engine behind a socket of the test's own, so that it can go away without being stopped."""

    name = "real"

    def __init__(self, gateway: str, image: str, proxy: Proxy) -> None:
        self.gateway = gateway
        self.image = image
        self.socket_path = proxy.path
        self._proxy = proxy
        # Rules of this rig's own: other tests' bridges are shut in by the host's.
        self.rules = HostRules(f"e{gateway[-3:]}-")
        self.docker = DockerEngine(str(proxy.path), gateway, pool="10.214.0.0/20", host_rules=self.rules)
        self.engine: Engine = self.docker
        self._foreign: list[list[str]] = []

    async def crash(self, state: ContainerState) -> None:
        os.kill(state.pid, signal.SIGKILL)

    async def pause(self, state: ContainerState) -> None:
        docker("pause", state.id)

    async def make_unhealthy(self, state: ContainerState) -> None:
        docker("exec", state.id, "touch", "/tmp/sick")

    async def remove_behind_its_back(self, state: ContainerState) -> None:
        docker("rm", "-f", state.id)

    async def plug(self, state: ContainerState, network: str, *, off: bool = False) -> None:
        docker("network", "disconnect" if off else "connect", network, state.id)

    async def bend(self, state: ContainerState, *limit: str) -> None:
        docker("update", *limit, state.id)

    async def lose_bridge(self, bridge: str) -> None:
        subprocess.run(["ip", "link", "del", bridge], check=True, timeout=10)

    async def take_name(self, kind: str, name: str) -> None:
        if kind == "container":
            docker("create", "--name", name, self.image, "true")
            self._foreign.append(["rm", "-f", name])
        else:
            docker(kind, "create", name)
            self._foreign.append([kind, "rm", name])

    async def drop(self) -> None:
        await self._proxy.stop()

    async def restore(self) -> None:
        await self._proxy.start()

    async def close(self) -> None:
        """Remove what `take_name` made, and the host rules."""
        self.docker.close()
        await self.rules.clear()
        for command in self._foreign:
            docker(*command)


class Proxy:
    """A Unix socket in front of the engine's own."""

    def __init__(self, path: Path, upstream: Path) -> None:
        self.path = path
        self.connections = 0
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """Refuse new connections and cut those that are open, as a dying engine does."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.path.unlink(missing_ok=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        other_writer: asyncio.StreamWriter | None = None
        try:
            other_reader, other_writer = await asyncio.open_unix_connection(self._upstream)
            pumps = [
                asyncio.ensure_future(_pump(reader, other_writer)),
                asyncio.ensure_future(_pump(other_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
        except asyncio.CancelledError:
            return
        finally:
            writer.close()
            if other_writer is not None:
                other_writer.close()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return


def make_spec(rig: Rig, name: str = "c1", *, service: str = "main", instance: str = "pump") -> ContainerSpec:
    """The least container that runs until it is told to stop. `name` is made unique by the gateway's."""
    return ContainerSpec(
        name=f"{rig.gateway}-{name}",
        instance=instance,
        service=service,
        release="r1",
        image=rig.image,
        gateway=rig.gateway,
        command=LIVE_FOREVER,
        tmpfs=(("/tmp", "size=1m"),),
    )


async def run(rig: Rig, spec: ContainerSpec) -> ContainerState:
    """Create and start it; its state."""
    container_id = await rig.engine.create(spec)
    await rig.engine.start(container_id)
    return await state_of(rig, container_id)


async def state_of(rig: Rig, container_id: str) -> ContainerState:
    """The container's state; it must be there."""
    state = await rig.engine.inspect(container_id)
    assert state is not None
    return state


async def state_when(
    rig: Rig, container_id: str, condition: Callable[[ContainerState], bool], within_s: float = 10.0
) -> ContainerState:
    """The container's state once `condition` holds of it."""
    async with asyncio.timeout(within_s):
        while True:
            state = await state_of(rig, container_id)
            if condition(state):
                return state
            await asyncio.sleep(0.05)


class Listener:
    """The event stream of a rig, read in the background."""

    def __init__(self) -> None:
        self.seen: list[EngineEvent | None] = []
        self._news = asyncio.Event()

    async def read(self, events: AsyncIterator[EngineEvent | None]) -> None:
        """Keep all that comes."""
        async for event in events:
            self.seen.append(event)
            self._news.set()

    async def until(self, condition: Callable[[list[EngineEvent | None]], bool], within_s: float = 10.0) -> None:
        """Return when `condition` holds of what was seen."""
        async with asyncio.timeout(within_s):
            while not condition(self.seen):
                self._news.clear()
                await self._news.wait()

    async def until_action(self, action: str) -> EngineEvent:
        """The first event of that action."""

        def found(seen: list[EngineEvent | None]) -> list[EngineEvent]:
            return [e for e in seen if e is not None and e.action == action]

        await self.until(lambda seen: bool(found(seen)))
        return found(self.seen)[0]


@asynccontextmanager
async def listening(engine: Engine) -> AsyncIterator[Listener]:
    """Events are read inside the block; the stream is closed at its end."""
    listener = Listener()
    stream = engine.events()
    task = asyncio.ensure_future(listener.read(stream))
    try:
        await listener.until(lambda seen: None in seen)
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def renamed(spec: ContainerSpec, **changes: object) -> ContainerSpec:
    """`spec` with some fields changed."""
    return replace(spec, **changes)  # type: ignore[arg-type]


def docker(*arguments: str) -> str:
    """The docker command: a witness and a hand that is not ours."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
