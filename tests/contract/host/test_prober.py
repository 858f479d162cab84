"""What a manifest's own probe says: one suite on the fake and on this machine's, at a server that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol

import pytest

from agent.control.converge.trial import Prober
from agent.domain.container import ContainerState, RunState
from agent.domain.manifest_model import Probe
from agent.host.probe import ContainerProber
from tests.fakes.plane import FakeProber


class Lab(Protocol):
    """A prober and the service it asks, which answers from the start."""

    prober: Prober
    running: ContainerState
    port: int

    async def fall_silent(self) -> None: ...
    async def answer_again(self) -> None: ...


def state(pid: int) -> ContainerState:
    return ContainerState("c" * 64, "c", "pump", "main", "r1", "s1", "i1", RunState.RUNNING, pid=pid)


class FakeLab:
    def __init__(self) -> None:
        self.fake = FakeProber()
        self.prober: Prober = self.fake
        self.running = state(10_001)
        self.port = 8080

    async def fall_silent(self) -> None:
        self.fake.wrong = "connection refused"

    async def answer_again(self) -> None:
        self.fake.wrong = None


class RealLab:
    """A server of this process, whose network the prober enters as it does a container's."""

    def __init__(self) -> None:
        self.prober: Prober = ContainerProber()
        self.running = state(os.getpid())
        self.port = 0

    async def answer_again(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def fall_silent(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    @staticmethod
    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.netns)])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    if request.param == "fake":
        yield FakeLab()
        return
    made = RealLab()
    await made.answer_again()
    yield made
    await made.fall_silent()


@pytest.fixture(params=["http", "tcp"])
def probe(request: pytest.FixtureRequest, lab: Lab) -> Probe:
    return Probe(request.param, "main", lab.port, "/healthy" if request.param == "http" else "")


async def test_a_service_that_answers_is_well_as_often_as_it_is_asked(lab: Lab, probe: Probe) -> None:
    assert [await lab.prober.ask(lab.running, probe) for _ in range(3)] == [None] * 3


async def test_one_that_does_not_is_ill_in_words_that_begin_with_its_name_until_it_does(lab: Lab, probe: Probe) -> None:
    await lab.fall_silent()
    said = await lab.prober.ask(lab.running, probe)
    assert said is not None
    assert said.startswith("main: ")
    assert "refused" in said
    await lab.answer_again()
    assert await lab.prober.ask(lab.running, probe) is None


async def test_a_container_without_a_process_is_ill_whoever_answers_at_its_port(lab: Lab, probe: Probe) -> None:
    assert await lab.prober.ask(replace(lab.running, pid=0), probe) == "main has no process"


@pytest.mark.netns
async def test_an_answer_that_comes_in_drips_costs_its_time_and_keeps_no_thread() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = await ContainerProber(timeout_s=0.3).ask(state(os.getpid()), Probe("http", "main", port, "/"))
    assert said is not None
    assert "no answer within 0.3 s" in said
    deadline_s = time.monotonic() + 10
    while (left := [each.name for each in threading.enumerate() if each.name.startswith("netns-")]) != []:
        assert time.monotonic() < deadline_s, left
        await asyncio.sleep(0.02)
    async with asyncio.timeout(10):
        await gone.wait()
    server.close()
