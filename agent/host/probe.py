"""Ask a container whether it is well, at a port inside its own network: works with no network at all."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.domain.container import ContainerState
from agent.domain.manifest_model import Probe
from agent.errors import GatewayError
from agent.host.netns import run_in_netns

_MARGIN_S = 1.0
_MAX_BODY_BYTES = 512


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`well` and, for people, why or why not."""

    well: bool
    message: str


class ContainerProber:
    """Asks what a manifest's own probe says, for the health gate."""

    def __init__(self, timeout_s: float = 3.0) -> None:
        self._timeout_s = timeout_s

    async def ask(self, container: ContainerState, probe: Probe) -> str | None:
        """None when it is well, else what is wrong, in words."""
        if container.pid <= 0:
            return f"{probe.service} has no process"
        if probe.kind == "tcp":
            result = await probe_tcp(container.pid, probe.port, timeout_s=self._timeout_s)
        else:
            result = await probe_http(container.pid, probe.port, probe.path, timeout_s=self._timeout_s)
        return None if result.well else f"{probe.service}: {result.message}"


async def probe_http(pid: int, port: int, path: str = "/", *, timeout_s: float = 3.0) -> ProbeResult:
    """GET `path` at 127.0.0.1:`port` as process `pid` sees it. Well is a status of 200 to 399. Never raises for illness."""
    return await _probe(pid, f"GET {path} at port {port}", lambda: _get(port, path, timeout_s), timeout_s)


async def probe_tcp(pid: int, port: int, *, timeout_s: float = 3.0) -> ProbeResult:
    """Connect to 127.0.0.1:`port` as process `pid` sees it. Well is an accepted connection."""
    return await _probe(pid, f"connecting to port {port}", lambda: _connect(port, timeout_s), timeout_s)


async def _probe(pid: int, doing: str, work: Callable[[], ProbeResult], timeout_s: float) -> ProbeResult:
    try:
        return await run_in_netns(pid, work, within_s=timeout_s + _MARGIN_S)
    except TimeoutError:
        return ProbeResult(False, f"{doing}: no answer within {timeout_s:g} s")
    except (OSError, http.client.HTTPException) as error:
        return ProbeResult(False, f"{doing}: {str(error) or type(error).__name__}")
    except GatewayError as error:
        return ProbeResult(False, f"{doing}: {error}")


class _Answering(socket.socket):
    """A connection whose whole answer has `timeout_s`: one that drips would otherwise keep a thread for hours."""

    def __init__(self, port: int, timeout_s: float) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._ends_at_s = time.monotonic() + timeout_s
        self.settimeout(timeout_s)
        try:
            self.connect(("127.0.0.1", port))
        except BaseException:
            self.close()
            raise

    def recv_into(self, *given: Any) -> int:
        left_s = self._ends_at_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.settimeout(left_s)
        return super().recv_into(*given)


def _connect(port: int, timeout_s: float) -> ProbeResult:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s):
        return ProbeResult(True, f"port {port} accepts connections")


def _get(port: int, path: str, timeout_s: float) -> ProbeResult:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = _Answering(port, timeout_s)
    try:
        connection.request("GET", path, headers={"User-Agent": "ec-probe", "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(_MAX_BODY_BYTES).decode(errors="replace").strip()
    finally:
        connection.close()
    first_line = body.partition("\n")[0][:120]
    told = f"{answer.status} {answer.reason}" + (f": {first_line}" if first_line else "")
    return ProbeResult(200 <= answer.status < 400, told)
