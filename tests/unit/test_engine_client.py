"""What no real engine does on demand: being another version, freezing, flooding; played by a small stand-in."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from docker import errors as docker_errors

from agent.domain.dockerfile import BuildHow
from agent.engine.builds import build
from agent.engine.client import EngineClient
from agent.engine.docker import DockerEngine
from agent.engine.events import follow_events
from agent.engine.hostrules import HostRules
from agent.errors import Failed, TimedOut, Unreachable

ACTOR = {"ID": "1", "Attributes": {"ec.gateway": "gw", "ec.app": "pump"}}


class StandIn:
    """Speaks as much of the engine's HTTP as the tests need, on a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        self.asked: list[str] = []
        self.frozen = False
        self.floods: list[list[int]] = []
        self.networks: list[dict[str, object]] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                target = line.split()[1].decode()
                while (await reader.readline()).strip():
                    pass
                self.asked.append(target)
                await self._answer(target, writer)
        except (asyncio.CancelledError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        if self.frozen:
            await asyncio.sleep(60)
        if "/build?" in target:
            text = json.dumps({"stream": " ---> 0123456789ab\n"}).encode() + b"\n"
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
            await asyncio.sleep(60)  # its next step
        if "/events" in target:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for time_ns in self.floods.pop(0) if self.floods else []:
                event = {"Type": "container", "Action": "start", "Actor": ACTOR, "timeNano": time_ns}
                text = json.dumps(event).encode() + b"\n"
                writer.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
            await writer.drain()
            return
        body = json.dumps(self.version if "/version" in target else self.networks).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


@pytest.fixture
async def stand_in(short_dir: Path) -> AsyncIterator[StandIn]:
    made = StandIn(short_dir / "e.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(stand_in: StandIn) -> AsyncIterator[EngineClient]:
    made = EngineClient(str(stand_in.path))
    yield made
    made.close()


def spoken(stand_in: StandIn) -> set[str]:
    """The API versions in which it was asked."""
    return {m[1] for target in stand_in.asked if (m := re.match(r"/v([0-9.]+)/", target))}


async def test_a_new_engine_is_spoken_to_in_a_version_it_still_knows(stand_in: StandIn) -> None:
    stand_in.version = {"ApiVersion": "1.52", "MinAPIVersion": "1.44"}
    engine = DockerEngine(f"unix://{stand_in.path}", "gw")
    assert await engine.networks() == []
    assert spoken(stand_in) == {"1.44"}
    engine.close()


async def test_an_engine_replaced_by_another_version_is_asked_anew(stand_in: StandIn, client: EngineClient) -> None:
    await client.call("listing", lambda c: c.containers())
    await stand_in.stop()
    with pytest.raises(Unreachable):
        await client.call("listing", lambda c: c.containers())
    stand_in.version = {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}
    stand_in.asked.clear()
    await stand_in.start()
    await client.call("listing", lambda c: c.containers())
    assert spoken(stand_in) == {"1.44"}


async def test_an_engine_that_is_too_old_is_refused_by_name(stand_in: StandIn, client: EngineClient) -> None:
    stand_in.version = {"ApiVersion": "1.38", "MinAPIVersion": "1.12"}
    with pytest.raises(Failed) as caught:
        await client.call("listing", lambda c: c.containers())
    assert caught.value.code == "engine.api_version"


async def test_an_engine_that_answers_with_its_own_trouble_is_the_same_engine_for_everybody(
    client: EngineClient,
) -> None:
    def find_no_bridge(_: object) -> None:
        raise docker_errors.APIError("could not find bridge br0: route ip+net: no such network interface")

    before = await client.call("asking", lambda c: c)
    with pytest.raises(Unreachable) as caught:
        await client.call("starting", find_no_bridge)
    assert caught.value.code == "engine.bridge_missing"
    assert await client.call("asking", lambda c: c) is before


async def test_a_frozen_engine_costs_the_deadline_and_not_more(stand_in: StandIn, client: EngineClient) -> None:
    await client.call("listing", lambda c: c.containers())
    stand_in.frozen = True
    with pytest.raises(TimedOut) as caught:
        await client.call("listing", lambda c: c.containers(), within_s=0.2)
    assert caught.value.code == "engine.timeout"


async def test_a_stopped_build_does_not_wait_for_an_engine_that_hangs_to_remove_what_it_has_left(
    stand_in: StandIn, client: EngineClient, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    begun = asyncio.Event()
    how = BuildHow()
    building = asyncio.create_task(build(client, str(tmp_path), "x:1", lambda _d, _t, _w: begun.set(), how, ""))
    async with asyncio.timeout(10):
        await begun.wait()
    stand_in.frozen = True
    stand_in.asked.clear()
    building.cancel()
    done, _ = await asyncio.wait({building}, timeout=8)
    assert (done, building.cancelled()) == ({building}, True)
    assert stand_in.asked, "it was tried"
    await stand_in.stop()


async def test_closing_waits_for_no_engine_that_hangs(stand_in: StandIn, client: EngineClient) -> None:
    """It blocks the loop: what else is to be closed, as the state and the outbox, would wait as long."""
    stand_in.frozen = True
    asking = asyncio.create_task(client.call("listing", lambda c: c.containers()))
    async with asyncio.timeout(10):
        while not stand_in.asked:
            await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    began = loop.time()
    client.close()
    assert loop.time() - began < 10
    await stand_in.stop()
    with pytest.raises((Unreachable, asyncio.CancelledError)):
        await asking


async def test_an_iptables_that_hangs_keeps_no_events_away(stand_in: StandIn, tmp_path: Path) -> None:
    hangs = tmp_path / "iptables"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    stand_in.networks = [{"Name": "shut", "Internal": True}]
    rules = HostRules("ex-", (str(hangs), str(hangs)), within_s=0.2)
    engine = DockerEngine(f"unix://{stand_in.path}", "gw", host_rules=rules)
    events = aiter(engine.events())
    async with asyncio.timeout(10):
        assert await anext(events) is None
    assert await HostRules("ex-", ("true", str(hangs)), within_s=0.2).assure() == 0
    engine.close()


async def test_slow_calls_never_hold_up_quick_ones(client: EngineClient) -> None:
    release = threading.Event()
    slow = [asyncio.ensure_future(client.call("stopping", lambda _: release.wait(20), slow=True)) for _ in range(20)]
    await client.call("listing", lambda c: c.containers(), within_s=5)
    assert not any(each.done() for each in slow)
    release.set()
    await asyncio.gather(*slow)


async def ready() -> None:
    """Nothing to do at a connect."""


async def test_a_stream_that_ends_goes_on_from_the_last_event_and_repeats_none(
    stand_in: StandIn, client: EngineClient
) -> None:
    stand_in.floods = [[1_000_000_001, 2_000_000_002], [2_000_000_002, 3_000_000_003]]
    seen = []
    stream = follow_events(client, "gw", ready, {"known": ("pump", "main")}.get)
    async with asyncio.timeout(10):
        async for event in stream:
            seen.append(event.time_ns if event else None)
            if seen[-1] == 2_000_000_002:
                await stand_in.stop()
                await stand_in.start()
            if seen[-1] == 3_000_000_003:
                break
    await stream.aclose()  # type: ignore[attr-defined]
    assert seen == [None, 1_000_000_001, 2_000_000_002, None, 3_000_000_003]
    queries = [parse_qs(urlsplit(target).query) for target in stand_in.asked if "/events" in target]
    assert "since" not in queries[0]
    assert queries[1]["since"] == ["2.000000002"]
    assert json.loads(queries[0]["filters"][0])["type"] == ["container", "network"]


async def test_a_flood_is_bounded_and_told(stand_in: StandIn, client: EngineClient) -> None:
    stand_in.floods = [list(range(1, 3001))]
    stream = follow_events(client, "gw", ready, {"known": ("pump", "main")}.get)
    assert await anext(stream) is None
    await asyncio.sleep(1.0)  # on any machine but a very slow one the reader's thread has all of it by now
    times: list[int] = []
    told = False
    async with asyncio.timeout(20):
        while not times or times[-1] < 3000:
            event = await anext(stream)
            told = told or event is None
            if event is not None:
                times.append(event.time_ns)
    assert times == sorted(times)
    assert told == (len(times) < 3000)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_no_engine_at_all_is_waited_for(short_dir: Path) -> None:
    stand_in = StandIn(short_dir / "later.sock")
    client = EngineClient(str(stand_in.path))
    stream = follow_events(client, "gw", ready, {"known": ("pump", "main")}.get)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.3)
    assert not first.done()
    await stand_in.start()
    async with asyncio.timeout(10):
        assert await first is None
    await stream.aclose()  # type: ignore[attr-defined]
    client.close()
    await stand_in.stop()
