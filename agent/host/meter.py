"""`agent.ports.Meter`: what containers use, from the kernel's files and by counting folders, in threads of low priority."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from agent.domain.container import ContainerState
from agent.domain.space import Disk
from agent.domain.usage import Folder, Usage
from agent.host.cgroups import Groups, find_groups, read_network, read_usage
from agent.host.quota import cap
from agent.host.tree import measure

log = logging.getLogger("agent.host.meter")

_WITHIN_S = 10.0
_MEASURE_WITHIN_S = 300.0
_LOWEST = 19


class SystemMeter:
    """This machine's. `root` is "/" outside tests; `measure_within_s` is for all folders of one `measure`."""

    def __init__(self, root: Path = Path("/"), measure_within_s: float = _MEASURE_WITHIN_S) -> None:
        self._root = root
        self._measure_within_s = measure_within_s
        self._groups: dict[str, tuple[int, Groups]] = {}
        self._counting = ThreadPoolExecutor(1, "measure", initializer=_step_back)

    def close(self) -> None:
        """Let the thread go; it ends after the folder it counts."""
        self._counting.shutdown(wait=False, cancel_futures=True)

    async def read(self, containers: Sequence[ContainerState]) -> Mapping[str, Usage]:
        """The counters of running containers by id; those that have ended are left out. About 0.1 ms each."""
        async with asyncio.timeout(_WITHIN_S):
            return await asyncio.to_thread(self._read_all, tuple(containers))

    async def measure(self, folders: Sequence[str]) -> Mapping[str, Folder]:
        """What each folder takes on disk; one at a time, and no faster than the machine has time for.

        Those that the time was too short for are told as not complete.
        """
        loop = asyncio.get_running_loop()
        found = dict.fromkeys(folders, Folder(complete=False))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._measure_within_s):
                for each in folders:
                    found[each] = await loop.run_in_executor(self._counting, measure, each)
        return found

    async def cap(self, name: str, folders: Sequence[str], limit_bytes: int) -> bool:
        """Have the file system itself hold the folders of `name` to a limit; False where it cannot."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_MEASURE_WITHIN_S):
            return await loop.run_in_executor(self._counting, _cap, name, tuple(folders), limit_bytes)

    async def disk(self, folder: str) -> Disk | None:
        """The file system where `folder` is, as an ordinary process may use it; None where it cannot be seen."""
        async with asyncio.timeout(_WITHIN_S):
            return await asyncio.to_thread(_disk, folder)

    def _read_all(self, containers: Sequence[ContainerState]) -> dict[str, Usage]:
        found: dict[str, Usage] = {}
        for container in containers:
            usage = self._read(container)
            if usage is not None:
                found[container.id] = usage
        if len(self._groups) > 2 * len(found) + 256:
            self._groups.clear()
        return found

    def _read(self, container: ContainerState) -> Usage | None:
        if container.pid <= 0:
            return None
        known = self._groups.get(container.id)
        if known is None or known[0] != container.pid:
            groups = find_groups(container.pid, self._root)
            if groups is None or not groups.belong_to(container.id):
                return None
            known = self._groups[container.id] = (container.pid, groups)
        usage = read_usage(known[1])
        if usage is None:
            self._groups.pop(container.id, None)
            return None
        return read_network(usage, container.pid, self._root) if container.address else usage


def _cap(name: str, folders: Sequence[str], limit_bytes: int) -> bool:
    try:
        return cap(name, folders, limit_bytes)
    except OSError as error:
        log.warning("no_hard_limit instance=%s reason=%s", name, error.strerror)
        return False


def _disk(folder: str) -> Disk | None:
    try:
        found, device = os.statvfs(folder), Path(folder).stat().st_dev
    except OSError:
        return None
    return Disk(device, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def _step_back() -> None:
    """Whoever wants the processor or the disk goes first."""
    thread = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, thread, _LOWEST)
        psutil.Process(thread).ionice(psutil.IOPRIO_CLASS_IDLE)
    except (OSError, psutil.Error):
        return
