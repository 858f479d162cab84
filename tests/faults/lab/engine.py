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

LABEL = "ec.gateway"


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
        """All of this gateway's containers, running or not, as `docker ps` has them."""
        found = self._list("/containers/json?all=1")
        return list(found)

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
            raise LabError(f"the engine answers {answer.status} to {method} {path}", body.decode(errors="replace"))
        return json.loads(body) if body else None

    def filter(self) -> str:
        """The query that picks this gateway's objects."""
        return "filters=" + quote(json.dumps({"label": [f"{LABEL}={self.gateway}"]}))

    def _list(self, path: str) -> Any:
        return self.ask("GET", f"{path}&{self.filter()}")


class ServingWatch:
    """Follows the engine's events, so that not even a moment with two serving containers of a service is missed.

    `doubles` says in words what was seen; a hand-over that may overlap is told by `allow`.
    """

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._serving: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._connection = _OverUnixSocket(engine.path, None)
        self._allowed: frozenset[str] = frozenset()
        self.doubles: list[str] = []
        self.starts = 0
        self._connection.request("GET", f"/events?{engine.filter()}")
        self._answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._follow, name="serving-watch", daemon=True)
        self._thread.start()

    def allow(self, *instances: str) -> None:
        """From now on, two containers of a service may serve at once in these instances (start-first)."""
        self._allowed = frozenset(instances)

    def take(self) -> list[str]:
        """What was seen since the last call."""
        found, self.doubles = self.doubles, []
        return found

    def close(self) -> None:
        """Stop following."""
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._connection.close()

    def _follow(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while line := self._answer.readline():
                self._see(json.loads(line))

    def _see(self, event: dict[str, Any]) -> None:
        if event.get("Type") != "container" or event.get("Action") not in ("start", "die"):
            return
        attributes = event["Actor"]["Attributes"]
        service = (str(attributes["ec.app"]), str(attributes["ec.service"]))
        serving = self._serving[service]
        if event["Action"] == "die":
            serving.discard(event["Actor"]["ID"])
            return
        self.starts += 1
        serving.add(event["Actor"]["ID"])
        if len(serving) > 1 and service[0] not in self._allowed:
            ids = ", ".join(sorted(each[:12] for each in serving))
            self.doubles.append(f"two containers of {'/'.join(service)} served at once: {ids}")
