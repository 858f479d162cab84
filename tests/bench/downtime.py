"""How long nobody answers while an APP is upgraded, by either strategy.

The APP listens on a Unix socket in its volume; a prober on the host asks it without a pause. A gap is from the last answer
before to the first answer after. Baselines: for stop-first the bare engine, which stops one container and starts the next one,
made beforehand; for start-first the longest gap in as many seconds in which nothing was upgraded.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker

from deploy.lab.engine import docker as run_docker
from deploy.lab.engine import engine_socket
from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway

ROUNDS = 10
SERVER = (
    "import os,socket\n"
    "s=socket.socket(socket.AF_UNIX)\n"
    "p='/data/answer.new'\n"
    "s.bind(p);os.chmod(p,0o777);s.listen(64);os.rename(p,'/data/answer')\n"
    "while True:\n c,_=s.accept();c.sendall(b'x');c.close()\n"
)
ASK_WITHIN_S = 1.0


class Prober:
    """Asks the socket at `path` without a pause while it is open; `gap_ms` is the longest time without an answer."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self.gap_ms = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _ask_on(self) -> None:
        last_s = time.monotonic()
        while not self._stop.is_set():
            if self._answers():
                now_s = time.monotonic()
                self.gap_ms = max(self.gap_ms, (now_s - last_s) * 1000)
                last_s = now_s
            time.sleep(0.001)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(ASK_WITHIN_S)
            try:
                asking.connect(self._path)
                return asking.recv(1) == b"x"
            except OSError:
                return False


def measure_downtime(rounds: int = ROUNDS) -> list[Figure]:
    """`upgrade.downtime_*`: medians over the rounds."""
    with BenchGateway() as gateway:
        stopped = _by_agent(gateway, "stop-first", rounds)
        started = _by_agent(gateway, "start-first", rounds)
        bare, floor = _by_hand(gateway, rounds)
    return [
        figure("upgrade.downtime_ms_stop_first", stopped, "ms", bare),
        figure("upgrade.downtime_ms_start_first", started, "ms", floor),
    ]


def manifest(version: str, strategy: str) -> dict[str, Any]:
    """One service that answers; each version is another container."""
    return {
        "name": "answer",
        "x-ec": {
            "version": version,
            "update": {"strategy": strategy, "health": {"within": "20s", "stable_for": "1s"}},
        },
        "services": {
            "main": {
                "image": "ec/python:3",
                "user": "1000:1000",
                "command": ["python3", "-c", SERVER],
                "environment": {"ROUND": version},
                "stop_signal": "SIGKILL",
                "volumes": ["data:/data"],
            }
        },
        "volumes": {"data": {}},
    }


def _by_agent(gateway: BenchGateway, strategy: str, rounds: int) -> float:
    instance = f"answer-{strategy}"
    gateway.finish(gateway.install(instance, manifest("0", strategy)))
    path = _mountpoint(f"{gateway.id}-{instance}_data") / "answer"
    gaps = []
    for number in range(1, rounds + 1):
        with Prober(path) as prober:
            gateway.finish(gateway.upgrade(instance, manifest(str(number), strategy)))
            time.sleep(0.3)
        gaps.append(prober.gap_ms)
    gateway.remove(instance)
    return statistics.median(gaps)


def _by_hand(gateway: BenchGateway, rounds: int) -> tuple[float, float]:
    """(stop one container and start the next, by docker-py; nothing at all for as long), medians."""
    client = docker.APIClient(f"unix://{engine_socket()}", version="1.41", timeout=60)
    volume = f"{gateway.id}-bare"
    labels = {"ec.gateway": gateway.id}
    client.create_volume(volume, labels=labels)
    path = _mountpoint(volume) / "answer"

    def make(number: int) -> str:
        body = {
            "Image": "ec/python:3",
            "Cmd": ["python3", "-c", SERVER],
            "User": "1000:1000",
            "Env": [f"ROUND={number}"],
            "Labels": labels,
            "StopSignal": "SIGKILL",
            "HostConfig": {"NetworkMode": "none", "Init": True, "Binds": [f"{volume}:/data"], "NanoCpus": 500_000_000},
        }
        return str(client.create_container_from_config(body, f"{volume}-{number}")["Id"])  # type: ignore[no-untyped-call]

    gaps, floors = [], []
    now = make(0)
    client.start(now)
    time.sleep(1.0)
    for number in range(1, rounds + 1):
        new = make(number)
        with Prober(path) as prober:
            time.sleep(0.3)
            client.stop(now, timeout=10)
            client.start(new)
            time.sleep(1.0)
        gaps.append(prober.gap_ms)
        with Prober(path) as prober:
            time.sleep(2.0)
        floors.append(prober.gap_ms)
        client.remove_container(now, force=True)
        now = new
    client.remove_container(now, force=True)
    client.close()
    return statistics.median(gaps), statistics.median(floors)


def _mountpoint(volume: str) -> Path:
    return Path(run_docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip())
