"""The Docker engine seen from outside, by its own command line: a witness independent of our adapter."""

import http.client
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.process import LabError

LABEL = "ec.gateway"
BASE_IMAGES = ("ec/busybox:1", "ec/python:3")
_DEFAULT_SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What on the engine carries one gateway's label: ids of containers and networks, names of volumes."""

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.containers or self.networks or self.volumes)


def engine_socket() -> Path:
    """The engine's Unix socket, from DOCKER_HOST or the usual place."""
    address = os.environ.get("DOCKER_HOST", "")
    if not address:
        return _DEFAULT_SOCKET
    if not address.startswith("unix://"):
        raise LabError(
            f"DOCKER_HOST is {address}", "the lab works with an engine on this machine: unset it, or use unix://"
        )
    return Path(address.removeprefix("unix://"))


def ping_engine() -> str:
    """The engine's version; fails with a remedy when none answers."""
    connection = _OverUnixSocket(engine_socket())
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        answer.read()
        return answer.headers.get("Api-Version", "")
    except OSError as error:
        raise LabError(
            f"no Docker engine answers at {engine_socket()} ({error})", "run `make setup`, which starts one"
        ) from error
    finally:
        connection.close()


def docker(*arguments: str, check: bool = True, within_s: float = 120.0) -> str:
    """Run the docker command and give its output."""
    command = ["docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=within_s)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(command)} failed", f"it says: {done.stderr.strip()}")
    return done.stdout


def leftovers(gateway: str) -> Leftovers:
    """Everything that carries `ec.gateway=<gateway>`, running or not."""
    label = f"label={LABEL}={gateway}"
    return Leftovers(
        containers=_lines("ps", "--all", "--quiet", "--filter", label),
        networks=_lines("network", "ls", "--quiet", "--filter", label),
        volumes=_lines("volume", "ls", "--quiet", "--filter", label),
    )


def remove_leftovers(gateway: str) -> Leftovers:
    """Remove all of them, in the order in which they hang together, and tell what there was."""
    found = leftovers(gateway)
    # Something may vanish by itself meanwhile; what counts is that nothing is left.
    if found.containers:
        docker("rm", "--force", "--volumes", *found.containers, check=False)
    if found.networks:
        docker("network", "rm", *found.networks, check=False)
    if found.volumes:
        docker("volume", "rm", "--force", *found.volumes, check=False)
    left = leftovers(gateway)
    if left:
        raise LabError(
            f"the engine did not remove everything of gateway {gateway}: {left}", "see: docker ps -a; docker network ls"
        )
    return found


class _OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _lines(*arguments: str) -> tuple[str, ...]:
    return tuple(docker(*arguments).split())
