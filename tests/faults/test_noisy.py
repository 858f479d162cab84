"""An APP that misbehaves hurts itself: with the default limits no neighbour notices, and the agent answers.

Each noise is deployed through a real agent, makes its noise for some seconds and is removed by the agent again. The
neighbour writes a heartbeat ten times a second; its worst gap is held to a bound that says "alive", not "fast".
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.process import wait_until
from tests.faults.lab.gateway import Gateway, open_gateway

MIB = 1024**2
NOISE_S = 4.0
LIVENESS_S = 5.0
ANSWER_S = 10.0
LOG_BYTES = 10 * MIB
SPARE_PIDS = 400
BEAT = "while :; do cat /proc/uptime >> /vol/beat; usleep 100000; done"


def manifest(name: str, script: str, *, volume: bool = False, extra: str = "", more: str = "") -> str:
    """One busybox service that runs `script`, proved as soon as it runs; everything else is default."""
    volumes = '    volumes: ["data:/vol"]\n' if volume else ""
    return (
        f"name: {name}\nx-ec: {{update: {{health: {{within: 20s, stable_for: 0s}}}}{more}}}\nservices:\n  main:\n"
        f"    image: ec/busybox:1\n    command: {json.dumps(['sh', '-c', script.replace('$', '$$')])}\n{volumes}{extra}"
        + ("volumes: {data: {}}\n" if volume else "")
    )


class House:
    """A gateway with one quiet APP, and a noisy one at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.install("quiet", manifest("quiet", BEAT, volume=True))
        self.beats = self.folder("quiet") / "beat"
        wait_until(lambda: self.beats.exists() and len(self.times()) > 3, "the neighbour's heartbeat", 10.0)

    def install(self, name: str, text: str) -> None:
        job = self.gateway.agent.send("app.install", {"instance": name, "manifest": text})["job"]
        assert self.gateway.finish(str(job))["state"] == "done"

    def container(self, name: str) -> dict[str, Any]:
        """What the engine says of the instance's container."""
        found = [c["Id"] for c in self.gateway.engine.containers() if c["Labels"]["ec.app"] == name]
        assert len(found) == 1
        return self.gateway.engine.inspect(found[0])

    def folder(self, name: str) -> Path:
        """Where the instance's volume lies on the host."""
        return Path(next(m["Source"] for m in self.container(name)["Mounts"] if m["Type"] == "volume"))

    def status(self, name: str = "noisy") -> dict[str, Any]:
        return dict(self.gateway.agent.ask("app.status", {"instance": name}))

    def alarms(self) -> dict[str, str]:
        """Code -> message of what stands for the noisy one."""
        found = self.gateway.agent.ask("alarm.list")
        return {a["code"]: a["message"] for a in found if a["source"].startswith("app:noisy")}

    def times(self) -> list[float]:
        """When the neighbour was alive, in seconds of the kernel's uptime."""
        lines = self.beats.read_text().splitlines()
        return [float(line.split()[0]) for line in lines if line.count(" ") == 1]

    def endure(self, noise: str, until: Callable[[], bool] | None = None) -> float:
        """Let `noise` go on for a while, or until something holds; the longest the agent took to answer."""
        began, slowest = time.monotonic(), 0.0
        self.install("noisy", noise)
        made = time.monotonic()
        while time.monotonic() - made < NOISE_S if until is None else not until():
            assert time.monotonic() - began < 40, "it takes too long"
            asked = time.monotonic()
            self.gateway.agent.ask("app.list")
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.2)
        return slowest

    def remove(self) -> float:
        """Take the noise away; seconds until nothing of it is left."""
        began = time.monotonic()
        job = self.gateway.agent.send("app.remove", {"instance": "noisy", "volumes": True})["job"]
        assert self.gateway.finish(str(job))["state"] == "done"
        return time.monotonic() - began

    def worst_gap_s(self, since: float) -> float:
        """Between two heartbeats of the neighbour from `since` to now."""
        now = float(Path("/proc/uptime").read_text().split()[0])
        alive = [since, *(each for each in self.times() if since < each < now), now]
        return max(b - a for a, b in itertools.pairwise(alive))


@pytest.fixture(scope="module")
def house(engine_socket: Path) -> Iterator[House]:
    del engine_socket
    folder = Path(tempfile.mkdtemp(prefix="ecn", dir="/tmp"))
    try:
        with open_gateway(folder, cloud=False) as gateway:
            yield House(gateway)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def undisturbed(house: House) -> Iterator[House]:
    """The same house; afterwards the neighbour was alive all the time, was not restarted, and the noise is gone."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    before = house.container("quiet")["State"]["StartedAt"]
    yield house
    took_s = house.remove()
    assert house.container("quiet")["State"]["StartedAt"] == before
    assert house.worst_gap_s(uptime) < LIVENESS_S
    assert took_s < 20


def processes() -> int:
    return sum(1 for entry in Path("/proc").iterdir() if entry.name.isdigit())


def test_a_fork_bomb_ends_at_its_own_limit(undisturbed: House) -> None:
    before = processes()
    slowest = undisturbed.endure(manifest("bomb", "b() { b | b & }; b; sleep 600"))
    assert slowest < ANSWER_S
    assert processes() - before < SPARE_PIDS
    assert undisturbed.container("noisy")["HostConfig"]["PidsLimit"] == 64


def test_a_flood_of_log_keeps_its_bound_on_disk(undisturbed: House) -> None:
    line = "x" * 200
    slowest = undisturbed.endure(manifest("flood", f"yes {line}"))
    assert slowest < ANSWER_S
    log = Path(undisturbed.container("noisy")["LogPath"]).parent
    assert sum(each.stat().st_size for each in log.glob("*.log*")) <= LOG_BYTES + MIB


def test_a_full_tmp_is_its_own(undisturbed: House) -> None:
    slowest = undisturbed.endure(
        manifest("tmp", "cat /dev/zero > /tmp/x; while :; do echo y > /tmp/y; sleep 0.1; done")
    )
    assert slowest < ANSWER_S
    assert "size=" in undisturbed.container("noisy")["HostConfig"]["Tmpfs"]["/tmp"]


def test_a_volume_that_is_filled_stops_its_app_and_says_so(undisturbed: House) -> None:
    script = "sleep 2; dd if=/dev/zero of=/vol/x bs=1M count=200; sleep 600"
    noise = manifest("disk", script, volume=True, more=", disk: 30M")
    undisturbed.endure(noise, until=lambda: undisturbed.status()["phase"] == "held")
    assert undisturbed.status()["message"].startswith("disk: ")
    assert undisturbed.status()["message"].endswith(" of 30 MiB")
    assert "disk_limit" in undisturbed.alarms()
    assert not undisturbed.container("noisy")["State"]["Running"]
    # By hand, after cleaning up, it runs again; the folder keeps a name that its script cannot write to.
    folder = undisturbed.folder("noisy")
    (folder / "x").unlink()
    (folder / "x").mkdir()
    job = undisturbed.gateway.agent.send("app.start", {"instance": "noisy"})["job"]
    assert undisturbed.gateway.finish(str(job))["state"] == "done"
    wait_until(lambda: undisturbed.alarms() == {}, "the alarm's end", 10.0)
    assert undisturbed.container("noisy")["State"]["Running"]


def test_a_spinning_processor_is_held_to_its_share(undisturbed: House) -> None:
    slowest = undisturbed.endure(manifest("spin", "while :; do :; done & while :; do :; done"))
    assert slowest < ANSWER_S
    assert undisturbed.container("noisy")["HostConfig"]["NanoCpus"] == 500_000_000


def test_one_that_ignores_sigterm_is_ended_after_its_grace(undisturbed: House) -> None:
    noise = manifest("deaf", "trap '' TERM; while :; do sleep 1; done", extra="    stop_grace_period: 2s\n")
    undisturbed.endure(noise, until=lambda: undisturbed.status()["phase"] == "running")
    began = time.monotonic()
    job = undisturbed.gateway.agent.send("app.stop", {"instance": "noisy"})["job"]
    assert undisturbed.gateway.finish(str(job))["state"] == "done"
    assert time.monotonic() - began < 20
    assert not undisturbed.container("noisy")["State"]["Running"]


def test_zombies_stay_within_its_own_limit(undisturbed: House) -> None:
    before = processes()
    script = "i=0; while [ $i -lt 50 ]; do sleep 0 & i=$((i+1)); done; exec sleep 600"
    slowest = undisturbed.endure(manifest("zombies", script))
    assert slowest < ANSWER_S
    assert processes() - before < SPARE_PIDS


def test_a_memory_hog_is_killed_for_memory_and_that_is_said_although_it_ends_with_0(undisturbed: House) -> None:
    hog = 'sh -c "x=\\$(cat /dev/zero | tr \\"\\\\0\\" a | head -c 300000000)"; sleep 1; exit 0'
    slowest = undisturbed.endure(manifest("hog", hog), until=lambda: bool(undisturbed.alarms()))
    assert slowest < ANSWER_S
    alarms = undisturbed.alarms()
    assert alarms.keys() & {"killed_for_memory", "crash_loop"}
    assert "killed for memory (limit 64 MiB)" in next(iter(alarms.values()))
    assert undisturbed.status()["services"][0]["ended"] == "killed for memory (limit 64 MiB)"
