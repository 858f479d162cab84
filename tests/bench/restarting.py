"""From a container's death to the agent knowing of it, and to its next start in a loop that the agent owns.

Both are measured in the same kills. What the agent knows it writes into its log, which is read as it grows; what the
engine tells anybody is read from `docker events`, in the same way.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

from deploy.lab.engine import engine_socket
from deploy.lab.process import Child, LabError, wait_until
from tests.bench.deploying import started_s
from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway, one_service

KILLS = 20
SETTINGS = "supervision: {first_delay: 10ms, last_delay: 10ms, healthy: 1h}\n"
DIED = "service_died"
LOOP_WITHIN_S = 60.0
_POLL_S = 0.0005


def measure_restarting(kills: int = KILLS) -> list[Figure]:
    """`restart.*`."""
    client = docker.APIClient(f"unix://{engine_socket()}", version="1.41", timeout=60)
    seen_ms: list[float] = []
    told_ms: list[float] = []
    back_ms: list[float] = []
    bare_ms: list[float] = []
    with BenchGateway({"conf.d/fast.yaml": SETTINGS}) as gateway:
        gateway.finish(gateway.install("crasher", one_service("crasher", "ec/busybox:1", ["sleep", "86400"])))
        name = gateway.container("crasher")
        _make_loop(client, name)
        events = gateway.root / "events.log"
        words = ["docker", "events", "--filter", f"container={name}", "--filter", "event=die", "--format", DIED]
        witness = Child("docker events", words, events)
        time.sleep(1.0)
        try:
            for _ in range(kills):
                killed_s, seen_s, told_s = _kill(client, name, gateway.root / "agent.log", events)
                seen_ms.append((seen_s - killed_s) * 1000)
                told_ms.append((told_s - killed_s) * 1000)
                back_ms.append((_next_start_s(client, name, killed_s) - killed_s) * 1000)
                bare_ms.append(_kill_bare(client, gateway.id))
        finally:
            witness.end()
    client.close()
    return [
        figure("restart.detect_ms", statistics.median(seen_ms), "ms", statistics.median(told_ms)),
        figure("restart.back_ms", statistics.median(back_ms), "ms", statistics.median(bare_ms)),
    ]


def _make_loop(client: docker.APIClient, name: str) -> None:
    """Crash it until the agent has taken its restarts over."""
    deadline = time.monotonic() + LOOP_WITHIN_S
    while True:
        shown = client.inspect_container(name)
        if shown["State"]["Status"] == "running":
            if shown["HostConfig"]["RestartPolicy"]["Name"] == "no":
                return
            _kill_first(shown)
        if time.monotonic() > deadline:
            raise LabError("the agent did not take the crash loop over", "see the agent's log")
        time.sleep(0.1)


def _kill(client: docker.APIClient, name: str, log: Path, events: Path) -> tuple[float, float, float]:
    """When it was killed, when the agent had written of it, when `docker events` had."""
    shown = client.inspect_container(name)
    grown, told = _growth(log), _growth(events)
    killed_s = time.time()
    _kill_first(shown)
    seen_s = told_s = 0.0
    deadline = killed_s + 20.0
    while not (seen_s and told_s):
        now_s = time.time()
        seen_s = seen_s or (now_s if grown() else 0.0)
        told_s = told_s or (now_s if told() else 0.0)
        if now_s > deadline:
            raise LabError("nobody told of a container's death within 20 s", f"see {log}")
        time.sleep(_POLL_S)
    return killed_s, seen_s, told_s


def _kill_first(shown: dict[str, Any]) -> None:
    """SIGKILL to its first process. One that waits for its restart has none: 0 would be this program's own group."""
    pid = int(shown["State"]["Pid"])
    if pid <= 1:
        raise LabError("the container has no process to kill", str(shown["State"]))
    os.kill(pid, signal.SIGKILL)


def _growth(path: Path) -> Callable[[], bool]:
    """Whether a death was written to the file since now."""
    at = path.stat().st_size

    def grown() -> bool:
        if path.stat().st_size <= at:
            return False
        with path.open("rb") as file:
            file.seek(at)
            return DIED.encode() in file.read()

    return grown


def _next_start_s(client: docker.APIClient, name: str, after_s: float) -> float:
    shown: dict[str, Any] = {}

    def runs() -> bool:
        shown.update(client.inspect_container(name))
        return bool(shown["State"]["Running"]) and started_s(shown) > after_s

    wait_until(runs, "the container runs again", 20.0)
    return started_s(shown)


def _kill_bare(client: docker.APIClient, label: str) -> float:
    """The same by hand: a container without a policy, killed, waited for, started."""
    body = {"Image": "ec/busybox:1", "Cmd": ["sleep", "86400"], "Labels": {"ec.gateway": f"{label}-bare"}}
    body["HostConfig"] = {"NetworkMode": "none", "Init": True}
    made = client.create_container_from_config(body)["Id"]  # type: ignore[no-untyped-call]
    try:
        client.start(made)
        shown = client.inspect_container(made)
        killed_s = time.time()
        _kill_first(shown)
        client.wait(made, timeout=20)
        client.start(made)
        return (started_s(client.inspect_container(made)) - killed_s) * 1000
    finally:
        client.remove_container(made, force=True)
