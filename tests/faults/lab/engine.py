"""An engine seen from outside, over its socket, without any of the agent's code."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.lab.process import LabError
from tests.faults.lab import pump

LABEL = "ec.gateway"


class GoneError(LabError):
    """There is nothing of that name (any more)."""


class _OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(str(self._path))


class EngineView:
    """Questions to the engine at `path` about one gateway's objects."""

    def __init__(self, path: Path, gateway: str) -> None:
        self.path = path
        self.gateway = gateway

    def containers(self) -> list[dict[str, Any]]:
        """All of this gateway's containers, running or not, as `docker ps` has them; `State` and `Joined` as inspection has it.

        `Joined` is by network what it is there: `Aliases`, `Links`.

        The list is a copy that the engine renews when it has written a container's file: where its disk was full, the
        copy says `created` of what runs, until the container changes again.
        """
        found = []
        for each in self._list("/containers/json?all=1"):
            with contextlib.suppress(GoneError):
                seen = self.inspect(each["Id"])
                joined = seen["NetworkSettings"]["Networks"]
                found.append({**each, "State": seen["State"]["Status"], "Joined": joined})
        return found

    def networks(self) -> list[str]:
        """Names of this gateway's networks."""
        return sorted(str(each["Name"]) for each in self._list("/networks?"))

    def volumes(self) -> list[dict[str, Any]]:
        """This gateway's volumes; `Mountpoint` is where their data lies on this machine."""
        return list(self._list("/volumes?")["Volumes"] or [])

    def inspect(self, container: str) -> dict[str, Any]:
        """One container in full."""
        return dict(self.ask("GET", f"/containers/{container}/json"))

    def ask(self, method: str, path: str, within_s: float = 30.0) -> Any:
        """One request; LabError where the engine refuses it."""
        connection = _OverUnixSocket(self.path, within_s)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            kind = GoneError if answer.status == 404 else LabError
            raise kind(f"the engine answers {answer.status} to {method} {path}", body.decode(errors="replace"))
        return json.loads(body) if body else None

    def filter(self) -> str:
        """The query that picks this gateway's objects."""
        return "filters=" + quote(json.dumps({"label": [f"{LABEL}={self.gateway}"]}))

    def _list(self, path: str) -> Any:
        return self.ask("GET", f"{path}&{self.filter()}")


class ServingWatch:
    """Follows the engine's events, so that not even a moment with two serving containers of a service is missed.

    With `start_first` two may serve, of two versions, and one must at every moment. Where the engine dies it asks the
    next one what serves, and follows on. A bad version never proves itself, so none of it may ever have its service's
    name. `doubles`, `gaps` and `found_early` say in words what was seen.
    """

    def __init__(self, engine: EngineView, *, start_first: bool = False) -> None:
        self._engine = engine
        self._start_first = start_first
        self._serving: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        self._closed = threading.Event()
        self._connected = threading.Event()
        self._connection: _OverUnixSocket | None = None
        self.doubles: list[str] = []
        self.gaps: list[str] = []
        self.found_early: list[str] = []
        self.starts = 0
        self._thread = threading.Thread(target=self._follow, name="serving-watch", daemon=True)
        self._thread.start()
        self._connected.wait(10)

    def take(self) -> list[str]:
        """What was seen since the last call."""
        found = [*self.doubles, *self.gaps, *self.found_early]
        self.doubles, self.gaps, self.found_early = [], [], []
        return found

    def close(self) -> None:
        """Stop following."""
        self._closed.set()
        if self._connection is not None and self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _follow(self) -> None:
        while not self._closed.is_set():
            self._connection = _OverUnixSocket(self._engine.path, None)
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, LabError, AttributeError):
                self._connection.request("GET", f"/events?{self._engine.filter()}")
                answer = self._connection.getresponse()
                self._look()
                self._connected.set()
                while line := answer.readline():
                    self._see(json.loads(line))
            self._connection.close()
            self._closed.wait(0.1)

    def _look(self) -> None:
        self._serving.clear()
        for container in self._engine.containers():
            if container["State"] == "running":
                self._serve(container["Labels"], container["Id"])

    def _see(self, event: dict[str, Any]) -> None:
        if event.get("Type") != "container" or event.get("Action") not in ("start", "die"):
            return
        attributes, container = event["Actor"]["Attributes"], event["Actor"]["ID"]
        if event["Action"] == "start":
            self.starts += 1
            self._serve(attributes, container)
            if self._start_first:
                self._ask_names(attributes["ec.service"], container)
            return
        service = attributes["ec.app"], attributes["ec.service"]
        served = self._serving[service].pop(container, None) is not None
        if self._start_first and served and not self._serving[service]:
            self.gaps.append(f"for a moment nothing of {'/'.join(service)} served")

    def _serve(self, labels: dict[str, str], container: str) -> None:
        service = labels["ec.app"], labels["ec.service"]
        here = self._serving[service]
        here[container] = labels["ec.spec"]
        versions = len(set(here.values()))
        if len(here) > 1 and not (self._start_first and len(here) == versions == 2):
            ids = ", ".join(sorted(each[:12] for each in here))
            self.doubles.append(f"two containers of {'/'.join(service)} served at once: {ids}")

    def _ask_names(self, service: str, container: str) -> None:
        with contextlib.suppress(GoneError):
            seen = self._engine.inspect(container)
            if pump.is_bad(seen["Config"]["Cmd"][-1]) and names_of(service, seen["NetworkSettings"]["Networks"]):
                self.found_early.append(f"{service} of the bad version could be found by its name")


def names_of(service: str, joined: dict[str, dict[str, Any]]) -> list[str]:
    """The networks on which a container of the service, that is `joined` to them, has the service's name."""
    return [name for name, endpoint in joined.items() if service in (endpoint["Aliases"] or ())]
