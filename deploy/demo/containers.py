"""Containers as `docker ps` and `docker inspect` show them: nothing here goes through the agent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.lab import Child
from deploy.lab.engine import LABEL, docker


@dataclass(frozen=True, slots=True)
class Seen:
    """One container. `body` is all that `docker inspect` says."""

    instance: str
    id: str
    name: str
    running: bool
    started_at: str
    restarts: int
    pid: int
    image: str
    body: dict[str, Any]

    @property
    def run(self) -> tuple[str, str]:
        """Changes whenever the container was made anew or started again."""
        return self.id, self.started_at


def containers(gateway: str, instance: str | None = None) -> list[Seen]:
    """All of a gateway, running or not, by name."""
    wanted = ["--filter", f"label={LABEL}={gateway}"]
    if instance is not None:
        wanted += ["--filter", f"label=ec.app={instance}"]
    ids = docker("ps", "--all", "--quiet", "--no-trunc", *wanted).split()
    if not ids:
        return []
    # One that vanishes between the two commands is left out.
    bodies: list[dict[str, Any]] = json.loads(docker("inspect", "--type", "container", *ids, check=False) or "[]")
    return sorted((_seen(body) for body in bodies), key=lambda seen: seen.name)


def serving(gateway: str, instance: str) -> list[Seen]:
    """Those of an instance that run now."""
    return [seen for seen in containers(gateway, instance) if seen.running]


def runs(gateway: str) -> dict[str, tuple[str, str]]:
    """Of every running container: name -> (id, StartedAt)."""
    return {seen.name: seen.run for seen in containers(gateway) if seen.running}


def watch_starts(gateway: str, instance: str, log: Path) -> Child:
    """`docker events` of an instance into a file, from now on: asked later, the engine remembers its last 256 events only."""
    wanted = [f"label={LABEL}={gateway}", f"label=ec.app={instance}", "event=start", "event=die"]
    filters = [word for one in wanted for word in ("--filter", one)]
    return Child("docker events", ["docker", "events", *filters, "--format", "{{.Action}} {{.TimeNano}}"], log)


def starts_and_deaths(log: Path) -> list[tuple[str, float]]:
    """What `watch_starts` wrote: ("start" or "die", epoch seconds), in order."""
    lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    return [(words[0], int(words[1]) / 1e9) for words in lines if len(words) == 2]


def _seen(body: dict[str, Any]) -> Seen:
    state = body["State"]
    return Seen(
        instance=body["Config"]["Labels"].get("ec.app", ""),
        id=body["Id"],
        name=body["Name"].lstrip("/"),
        running=bool(state["Running"]) and not state.get("Restarting"),
        started_at=state["StartedAt"],
        restarts=int(body["RestartCount"]),
        pid=int(state["Pid"]),
        image=body["Image"],
        body=body,
    )
