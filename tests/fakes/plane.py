"""The host, the doors and the prober as the control room sees them, in memory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.domain.appview import AppView
from agent.domain.container import ContainerState
from agent.domain.manifest_model import Probe
from agent.ports import Room
from tests.fakes.faults import Faults


class FakeDoors:
    """The eSDK's folders; `open_now` are the instances that have one, `closed` those whose folder was taken away."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.closed: list[str] = []
        self.open_now: dict[str, AppView] = {}
        self.overdue: dict[tuple[str, str], float] = {}

    def folder(self, instance: str) -> Path:
        return self._root / instance

    def late(self, instance: str) -> Mapping[str, float]:
        return {service: late_s for (name, service), late_s in self.overdue.items() if name == instance}

    def restarted(self, instance: str, service: str) -> None:
        self.overdue.pop((instance, service), None)

    async def open(self, view: AppView) -> None:
        await asyncio.to_thread(self.folder(view.instance).mkdir, parents=True, exist_ok=True)
        self.open_now[view.instance] = view

    async def close(self, instance: str, *, remove: bool) -> None:
        self.open_now.pop(instance, None)
        for service in self.late(instance):
            self.restarted(instance, service)
        if remove:
            await asyncio.to_thread(shutil.rmtree, self.folder(instance), ignore_errors=True)
            self.closed.append(instance)


class FakeHost:
    """A small machine. `boot_id` changes when it boots; `left` is what it has left for APPs, `trees` what folders hold.

    `socket_reads` counts how often somebody wanted to know who listens: a walk through all sockets on a real one;
    `measured` how often it was asked how it does. `now` is laid over what it says then.
    """

    def __init__(self) -> None:
        self.boot_id = "boot-1"
        self.now: dict[str, Any] = {"cpu_percent": 1.0}
        self.left = Room()
        self.socket_reads = 0
        self.measured = 0
        self.faults = Faults()
        self.trees: dict[str, int] = {}

    async def room(self, folder: str, *, listening: bool) -> Room:
        await self.faults.pass_through("room")
        self.socket_reads += listening
        return self.left if listening else replace(self.left, listening=frozenset())

    async def tree_bytes(self, folder: str) -> int:
        return self.trees.get(folder, 0)

    async def facts(self) -> Mapping[str, Any]:
        return {
            "model": "EC-1", "serial": "42", "os": "none", "kernel": "6.1", "architecture": "x86_64", "cpus": 2,
            "mem_bytes": 10**9, "boot_ms": 1, "boot_id": self.boot_id, "agent_version": "0.1.0",
        }  # fmt: skip

    async def usage(self) -> Mapping[str, Any]:
        self.measured += 1
        quiet = {
            "mem_used_bytes": 10**8, "mem_bytes": 10**9, "disk_free_bytes": 10**10, "disk_bytes": 2 * 10**10, "disk_device": 1,
            "load1": 0.1, "temperature_c": None,
        }  # fmt: skip
        return quiet | self.now


class FakeProber:
    """Says to every probe of a running container what is `wrong`; None: nothing is."""

    wrong: str | None = None

    async def ask(self, container: ContainerState, probe: Probe) -> str | None:
        if container.pid <= 0:
            return f"{probe.service} has no process"
        return None if self.wrong is None else f"{probe.service}: {self.wrong}"
