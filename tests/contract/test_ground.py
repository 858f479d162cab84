"""The machine and its time: one suite on the fakes and on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.clock import SystemClock
from agent.host.metrics import SystemHost
from agent.ports import Clock, Ground, Host
from tests.fakes.hand_clock import HandClock, ShiftedClock
from tests.fakes.plane import FakeHost


@pytest.fixture(params=[FakeHost, lambda: SystemHost("/")], ids=["fake", "real"])
def ground(request: pytest.FixtureRequest) -> Ground:
    made: Ground = request.param()
    return made


@pytest.fixture(params=[FakeHost, lambda: SystemHost("/")], ids=["fake", "real"])
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param()
    return made


@pytest.fixture(params=[lambda: SystemClock(0), HandClock, ShiftedClock], ids=["real", "by hand", "shifted"])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


async def test_who_listens_is_only_told_if_asked(ground: Ground, tmp_path: Path) -> None:
    quiet = await ground.room(str(tmp_path), listening=False)
    assert quiet.listening == frozenset()
    asked = await ground.room(str(tmp_path), listening=True)
    assert asked.pids == quiet.pids
    assert all(0 < port < 65_536 and protocol in ("tcp", "udp") for port, protocol, _ in asked.listening)


async def test_a_folder_that_is_not_there_holds_nothing(ground: Ground, tmp_path: Path) -> None:
    assert await ground.tree_bytes(str(tmp_path / "gone")) == 0


async def test_a_machine_says_what_it_is_and_how_it_does_in_the_same_words(host: Host) -> None:
    facts, usage = await host.facts(), await host.usage()
    words = ("model", "serial", "os", "kernel", "architecture", "boot_id", "agent_version")
    assert {key: type(value) for key, value in facts.items()} == {
        **dict.fromkeys(words, str), "cpus": int, "mem_bytes": int, "boot_ms": int,
    }  # fmt: skip
    assert await host.facts() == facts
    assert set(usage) == {
        "cpu_percent", "mem_used_bytes", "mem_bytes", "disk_free_bytes", "disk_bytes", "disk_device", "load1",
        "temperature_c",
    }  # fmt: skip
    assert 0 <= usage["mem_used_bytes"] <= usage["mem_bytes"]
    assert 0 <= usage["disk_free_bytes"] <= usage["disk_bytes"]


def test_time_goes_on_and_can_be_believed_until_somebody_knows_better(clock: Clock) -> None:
    first_ms, first_s = clock.now_ms(), clock.monotonic()
    assert clock.sane()
    assert isinstance(first_ms, int)
    assert first_ms > 1_700_000_000_000
    assert clock.now_ms() >= first_ms
    assert clock.monotonic() >= first_s
