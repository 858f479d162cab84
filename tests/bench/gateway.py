"""A real agent process on the real engine, as an installation runs it: compiled byte code, its state on a disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.errors import GatewayError
from agent.http.client import UnixClient
from deploy.lab.engine import docker, remove_leftovers
from deploy.lab.process import Child, LabError, wait_until

ROOT = Path(__file__).parents[2]
DISK = "/var/tmp"
JOB_WITHIN_S = 60.0
UNIT = ROOT / "deploy" / "systemd" / "ecgw.service"
BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bytecode")}
"""An installed agent never compiles its sources at a start, whatever the environment of the bench says."""


def as_a_service() -> dict[str, str]:
    """What an agent's environment has on top of this program's: as the service starts it, with its byte code at hand."""
    stated = re.findall(r"^Environment=(.+)$", UNIT.read_text(), re.MULTILINE)
    return {**dict(word.split("=", 1) for line in stated for word in line.split()), **BYTE_CODE}


class BenchGateway:
    """One gateway in a folder of its own; ended and cleaned up with its context."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        # Not /tmp: where that is memory, a sync costs nothing and the figures lie.
        self.root = Path(tempfile.mkdtemp(prefix="ecb", dir=DISK))
        self.id = f"bench-{uuid.uuid4().hex[:6]}"
        self.state = self.root / "var"
        self.client = UnixClient(self.state / "admin.sock")
        self._config = self.root / "etc"
        self._process: Child | None = None
        settings = f"identity: {{id: {self.id}}}\nengine: {{prefix: {self.id}}}\n"
        for name, text in {"gateway.yaml": settings, **(files or {})}.items():
            path = self._config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    @property
    def pid(self) -> int:
        """The agent's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start the agent and wait for `/v1/health` to say ready; the seconds that took."""
        command = [str(Path(sys.executable).parent / "ecgw"), "run", "--config", str(self._config)]
        began_s = time.perf_counter()
        self._process = Child(
            "agent", [*command, "--state", str(self.state)], self.root / "agent.log", env=as_a_service()
        )
        while not self._ready():
            if not self._process.alive or time.perf_counter() - began_s > 30:
                raise LabError("the agent did not get ready", f"its last words:\n{self._process.tail()}")
            time.sleep(0.002)
        return time.perf_counter() - began_s

    def stop(self) -> None:
        """End the agent as a service manager does; what runs goes on running."""
        if self._process is not None:
            self._process.end(grace_s=15.0)

    def command(self, type_: str, **params: Any) -> Any:
        """Send one command; the reply's data or job. LabError when it is refused."""
        reply = self.client.request("POST", "/v1/commands", {"type": type_, "params": params})
        if reply.status >= 300:
            raise LabError(f"{type_} was answered with {reply.status}: {reply.body}", "see the agent's log")
        return reply.body.get("job") or reply.body.get("data")

    def install(self, instance: str, manifest: Mapping[str, Any]) -> str:
        """Install an APP; its job."""
        return str(self.command("app.install", instance=instance, manifest=json.dumps(manifest)))

    def install_by_hand(self, instance: str, path: Path) -> str:
        """Install an APP as people do, with `ecgw app install`; its job."""
        words = [
            "app",
            "install",
            str(path),
            "--as",
            instance,
            "--no-wait",
            "--json",
            "--socket",
            str(self.state / "admin.sock"),
        ]
        command = [str(Path(sys.executable).parent / "ecgw"), *words]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60, env=read_environment())
        return str(json.loads(done.stdout)["id"])

    def upgrade(self, instance: str, manifest: Mapping[str, Any]) -> str:
        """Upgrade an APP; its job."""
        return str(self.command("app.upgrade", instance=instance, manifest=json.dumps(manifest)))

    def finish(self, *jobs: str) -> None:
        """Wait until the jobs are done."""
        for job in jobs:
            wait_until(lambda job=job: self._is_done(job), f"job {job} is done", JOB_WITHIN_S, child=self._process)  # type: ignore[misc]

    def remove(self, instance: str) -> None:
        """Remove an APP and wait until nothing is left of it."""
        self.finish(str(self.command("app.remove", instance=instance, volumes=True)))

    def container(self, instance: str) -> str:
        """The id of the instance's only container; "" when there is none."""
        return " ".join(self.containers(instance))

    def containers(self, instance: str) -> list[str]:
        """The ids of the instance's containers."""
        wanted = (f"label=ec.gateway={self.id}", f"label=ec.app={instance}")
        return docker("ps", "-aq", "--no-trunc", *(word for each in wanted for word in ("--filter", each))).split()

    def _ready(self) -> bool:
        try:
            answer = self.client.request("GET", "/v1/health", timeout_s=2.0)
        except (GatewayError, OSError):
            return False
        return answer.status == 200 and bool(answer.body.get("ready"))

    def _is_done(self, job: str) -> bool:
        state = self.command("job.status", job=job)["state"]
        if state in ("failed", "rolled_back", "cancelled"):
            raise LabError(f"job {job} ended as {state}", f"see {self.root / 'agent.log'}")
        return bool(state == "done")

    def __enter__(self) -> Self:
        _compile_sources()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        remove_leftovers(self.id)
        if kind is None:
            shutil.rmtree(self.root, ignore_errors=True)


@cache
def _compile_sources() -> None:
    """The first start from a clean clone would compile, and be 2 MiB larger for it."""
    code = "import agent.cli.main, agent.cli.run, agent.settings, agent.daemon"
    subprocess.run([sys.executable, "-c", code], check=True, env=read_environment())


def idle_manifest(version: str = "1") -> dict[str, Any]:
    """The smallest APP that runs: one service, no network, nothing to do."""
    return one_service("idle", "ec/busybox:1", ["sleep", "86400"], version=version)


def one_service(
    name: str, image: str, command: Sequence[str], *, version: str = "1", permissions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A manifest of one service that proves itself quickly."""
    return {
        "name": name,
        "x-ec": {
            "version": version,
            "update": {"health": {"within": "20s", "stable_for": "1s"}},
            **({"permissions": permissions} if permissions else {}),
        },
        "services": {"main": {"image": image, "command": list(command)}},
    }


def read_environment() -> dict[str, str]:
    """The environment in which an agent is measured, for child processes that are compared with it."""
    return {**os.environ, **as_a_service()}
