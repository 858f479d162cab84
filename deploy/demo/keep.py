"""What a demo has made, on disk: so that one that was kept, or killed, can be looked at and taken away."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.lab import Child, Plant, remove_leftovers
from deploy.lab.engine import docker, leftovers

FILE = "demo-state.json"
GRACE_S = 10.0


def write(build: Path, gateway: str, directory: Path, registry: str, plant: Plant, children: Sequence[Child]) -> None:
    """Remember what is there now, in one move."""
    body = {
        "gateway": gateway,
        "directory": str(directory),
        "registry": registry,
        "namespace": plant.name,
        "link": plant.host_link,
        "processes": [{"name": child.name, "pid": child.pid, "born": born(child.pid)} for child in children],
    }
    build.mkdir(exist_ok=True)
    half = build / f".{FILE}"
    half.write_text(json.dumps(body, indent=2) + "\n")
    half.replace(build / FILE)


def forget(build: Path) -> None:
    """Nothing is there any more."""
    (build / FILE).unlink(missing_ok=True)


def read(build: Path) -> dict[str, Any] | None:
    """What an earlier demo left, if it left something."""
    try:
        found: dict[str, Any] = json.loads((build / FILE).read_text())
    except (OSError, ValueError):
        return None
    return found


def stop(build: Path) -> bool:
    """End and remove what an earlier demo left. False when there was nothing."""
    found = read(build)
    if found is None:
        return False
    # The agent first: it would make containers anew that are removed under its hands.
    order = ["agent", "eccloud", "boiler", "annex", "mosquitto_sub", "mosquitto", "docker-registry"]
    processes = sorted(found["processes"], key=lambda row: order.index(row["name"]) if row["name"] in order else 99)
    for row in processes:
        end_process(int(row["pid"]), str(row["born"]))
    for words in (("link", "del", found["link"]), ("netns", "del", found["namespace"])):
        subprocess.run(["ip", *words], capture_output=True, check=False, timeout=20)
    sweep_engine(found["gateway"], found["registry"])
    shutil.rmtree(found["directory"], ignore_errors=True)
    forget(build)
    return True


def sweep_engine(gateway: str, registry: str) -> None:
    """Containers, networks and volumes of the gateway, unneeded host rules, and the images named after the demo's registry."""
    remove_leftovers(gateway)
    _remove_host_rules()
    listed = docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"reference={registry}/*", check=False)
    for image in dict.fromkeys(listed.split()):
        docker("image", "rm", "--force", image, check=False)


def anything_left(gateway: str, registry: str, namespace: str, directory: Path) -> list[str]:
    """What is left of a demo on this host, in words, by `docker`, `iptables` and `ip`; normally nothing."""
    found = leftovers(gateway)
    left = [f"container {one}" for one in found.containers] + [f"network {one}" for one in found.networks]
    left += [f"volume {one}" for one in found.volumes]
    left += [f"image {one}" for one in docker("image", "ls", "-q", "--filter", f"reference={registry}/*").split()]
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False, timeout=20).stdout
    left += [f"namespace {line}" for line in spaces.splitlines() if line.split()[0] == namespace]
    return left + ([f"folder {directory}"] if directory.exists() else [])


def end_process(pid: int, birth: str) -> None:
    """SIGTERM, then SIGKILL; nothing when that number is another process by now."""
    for number, patience_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 5.0)):
        if not birth or born(pid) != birth:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while born(pid) == birth and time.monotonic() < deadline:
            time.sleep(0.05)


def born(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _remove_host_rules() -> None:
    """The rules that shut isolated bridges in are the whole host's: they go when no such bridge is left."""
    if shutil.which("iptables") is None or any(Path("/sys/class/net").glob("eci-*")):
        return
    for program in ("iptables", "ip6tables"):
        listed = subprocess.run(
            [program, "-w", "5", "-t", "mangle", "-S"], capture_output=True, text=True, check=False, timeout=20
        )
        for words in map(shlex.split, listed.stdout.splitlines()):
            if "ec-isolated" in words:
                rule = [program, "-w", "5", "-t", "mangle", "-D", *words[1:]]
                subprocess.run(rule, capture_output=True, check=False, timeout=20)
