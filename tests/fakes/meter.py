"""What containers use, as the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.domain.container import ContainerState
from agent.domain.space import Disk
from agent.domain.usage import Folder, Usage

MIB = 1024**2
IDLE = Usage(cpu_ns=0, mem_bytes=MIB, mem_limit_bytes=64 * MIB, pids=2, pids_limit=64, oom_kills=0)


class FakeMeter:
    """`agent.ports.Meter`. `usage` goes by service, `folders` by path; `measured` lists what was counted, in order.

    `device` is the engine's disk; 1 is the one that the fake host keeps the gateway's state on.
    """

    def __init__(self) -> None:
        self.usage: dict[str, Usage] = {}
        self.folders: dict[str, Folder] = {}
        self.free: int | None = 10_000 * MIB
        self.device = 1
        self.read_ids: list[str] = []
        self.measured: list[str] = []
        self.hard = False
        self.capped: dict[str, tuple[tuple[str, ...], int]] = {}

    async def read(self, containers: Sequence[ContainerState]) -> Mapping[str, Usage]:
        self.read_ids += [c.id for c in containers]
        return {c.id: self.usage.get(c.service, IDLE) for c in containers if c.pid > 0}

    async def measure(self, folders: Sequence[str]) -> Mapping[str, Folder]:
        self.measured += folders
        return {each: self.folders.get(each, Folder()) for each in folders}

    async def cap(self, name: str, folders: Sequence[str], limit_bytes: int) -> bool:
        self.capped[name] = (tuple(folders), limit_bytes)
        return self.hard

    async def disk(self, folder: str) -> Disk | None:
        return Disk(self.device, self.free, 20_000 * MIB) if self.free is not None else None
