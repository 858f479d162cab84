"""Who is at the other end: the kernel names the process, its cgroup names the container, the gateway knows whose."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.errors import GatewayError, Unauthorised
from agent.http.messages import Peer

CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""In every cgroup layout the engines use: ``/docker/<id>``, ``docker-<id>.scope``, ``libpod-<id>.scope``."""
MAX_KNOWN = 1024
MAX_FILE_BYTES = 65_536


class Verifier(Protocol):
    """Decides whether a process may use an instance's socket. The simulator and tests bring their own."""

    async def verify(self, instance: str, peer: Peer) -> str:
        """The container that a process of the instance is in, "" for in none; raise Unauthorised for every other process."""
        ...


@dataclass(frozen=True, slots=True)
class Process:
    """One life of a process number: `start_ticks` tells it from the next process of that number."""

    pid: int
    start_ticks: int


class CgroupVerifier:
    """The verifier of a real gateway.

    `container_instance` names the instance of one of this gateway's containers, None for any other container. A
    container may be so new that the gateway has not noted it: the question is asked again for `patience_s`.
    """

    def __init__(
        self, container_instance: Callable[[str], str | None], *, proc: Path = Path("/proc"), patience_s: float = 2.0
    ) -> None:
        self._container_instance = container_instance
        self._proc = proc
        self._patience_s = patience_s
        self._known: OrderedDict[Process, tuple[str, ...]] = OrderedDict()
        # A thread of its own: the default pool may be full of slow engine calls.
        self._thread = ThreadPoolExecutor(1, "esdk-identity")

    async def verify(self, instance: str, peer: Peer) -> str:
        """See `Verifier`."""
        loop = asyncio.get_running_loop()
        process, containers = await loop.run_in_executor(self._thread, self._containers_of, peer.pid)
        until_s = loop.time() + self._patience_s
        while True:
            # The first that is ours counts: a container can make cgroups below its own, never beside it.
            owner, container = next(
                ((name, each) for each in containers if (name := self._container_instance(each))), (None, "")
            )
            if owner is not None or not containers or loop.time() >= until_s:
                break
            await asyncio.sleep(0.05)
        if owner != instance:
            raise _foreign(instance, peer, in_container=bool(containers))
        self._known[process] = containers
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return container

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _containers_of(self, pid: int) -> tuple[Process, tuple[str, ...]]:
        """The process and the containers its cgroup path names, outermost first. Runs in the thread."""
        process = Process(pid, self._start_ticks(pid))
        known = self._known.get(process)
        if known is not None:
            return process, known
        text = self._read(pid, "cgroup")
        # The number may have gone to another process while we read.
        if self._start_ticks(pid) != process.start_ticks:
            raise _vanished(pid)
        return process, tuple(dict.fromkeys(CONTAINER_ID.findall(text)))

    def _start_ticks(self, pid: int) -> int:
        # Field 22, counted behind the command's name, which may hold spaces and parentheses.
        fields = self._read(pid, "stat").rpartition(")")[2].split()
        try:
            return int(fields[19])
        except (IndexError, ValueError):
            raise _vanished(pid) from None

    def _read(self, pid: int, name: str) -> str:
        if pid <= 0:
            raise Unauthorised(
                "esdk.unknown_process",
                "the caller is outside the gateway's view of processes",
                hint="run the agent in the host's pid namespace",
            )
        try:
            with (self._proc / str(pid) / name).open("rb") as file:
                return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
        except OSError:
            raise _vanished(pid) from None


def _vanished(pid: int) -> GatewayError:
    return Unauthorised(
        "esdk.vanished_process", f"process {pid} was gone before it could be identified", hint="connect again"
    )


def _foreign(instance: str, peer: Peer, *, in_container: bool) -> GatewayError:
    what = "runs in a container that is not the APP's" if in_container else "runs in no container"
    # Just after a start the gateway may not have listed its containers yet: that passes, and the client may know.
    more = {"retry_after_s": 1.0} if in_container else {}
    return Unauthorised(
        "esdk.foreign_process",
        f"this socket belongs to the APP '{instance}', and process {peer.pid} {what}",
        hint="each APP uses the socket in its own /run/ec",
        **more,
    )
