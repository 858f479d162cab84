"""What a container uses, from the kernel's own files (cgroup v1 and v2): the engine's `stats` take a second each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.domain.usage import Usage

_MOST_BYTES = 16_384
_UNLIMITED_BYTES = 1 << 60
_V1_NEEDED = ("cpuacct", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Groups:
    """Where a process's counters are: per v1 controller a folder, or one folder of v2 under the name ""."""

    folders: Mapping[str, Path]

    @property
    def unified(self) -> bool:
        """True for cgroup v2."""
        return "" in self.folders

    def belong_to(self, container_id: str) -> bool:
        """False when the pid was given to another process since the engine told it."""
        return all(container_id in str(folder) for folder in self.folders.values())


def find_groups(pid: int, root: Path = Path("/")) -> Groups | None:
    """The control groups of process `pid`, None when it has ended."""
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    base = root / "sys/fs/cgroup"
    v1: dict[str, Path] = {}
    unified: Path | None = None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            unified = base / path.lstrip("/")
            continue
        for name in controllers.split(","):
            # Co-mounted controllers have a folder under either name or only under the joint one.
            for mount in (name, controllers):
                folder = base / mount / path.lstrip("/")
                if folder.is_dir():
                    v1[name] = folder
                    break
    if all(name in v1 for name in _V1_NEEDED):
        return Groups(v1)
    if unified is not None and (unified / "cgroup.procs").exists() and not v1.keys() & set(_V1_NEEDED):
        return Groups({"": unified})
    return None


def read_usage(groups: Groups) -> Usage | None:
    """The counters now; None when the container has ended. About 0.1 ms: plain reads of kernel memory."""
    try:
        return _read_v2(groups.folders[""]) if groups.unified else _read_v1(groups.folders)
    except (OSError, ValueError, KeyError):
        return None


def _read_v2(folder: Path) -> Usage:
    cpu = _pairs(folder / "cpu.stat")
    memory = _pairs(folder / "memory.stat")
    events = _pairs(folder / "memory.events")
    return Usage(
        cpu_ns=cpu["usage_usec"] * 1000,
        mem_bytes=max(0, _number(folder / "memory.current") - memory.get("inactive_file", 0)),
        mem_limit_bytes=_number(folder / "memory.max"),
        pids=_number(folder / "pids.current"),
        pids_limit=_number(folder / "pids.max"),
        throttled_ns=cpu.get("throttled_usec", 0) * 1000,
        oom_kills=events.get("oom_kill"),
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
    )


def _read_v1(folders: Mapping[str, Path]) -> Usage:
    memory = _pairs(folders["memory"] / "memory.stat")
    limit = _number(folders["memory"] / "memory.limit_in_bytes")
    cpu = _pairs(folders["cpu"] / "cpu.stat") if "cpu" in folders else {}
    return Usage(
        cpu_ns=_number(folders["cpuacct"] / "cpuacct.usage"),
        mem_bytes=max(0, _number(folders["memory"] / "memory.usage_in_bytes") - memory.get("total_inactive_file", 0)),
        mem_limit_bytes=limit if limit < _UNLIMITED_BYTES else 0,
        pids=_number(folders["pids"] / "pids.current"),
        pids_limit=_number(folders["pids"] / "pids.max"),
        throttled_ns=cpu.get("throttled_time", 0),
        oom_kills=_pairs(folders["memory"] / "memory.oom_control").get("oom_kill"),
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
    )


def read_network(usage: Usage, pid: int, root: Path = Path("/")) -> Usage:
    """`usage` with the bytes that went over all interfaces of process `pid` but its loopback."""
    try:
        lines = _text(root / f"proc/{pid}/net/dev").splitlines()[2:]
        rows = [(name.strip(), fields.split()) for name, _, fields in (line.partition(":") for line in lines)]
        received = sum(int(fields[0]) for name, fields in rows if name != "lo")
        sent = sum(int(fields[8]) for name, fields in rows if name != "lo")
    except (OSError, ValueError, IndexError):
        return usage
    return replace(usage, rx_bytes=received, tx_bytes=sent)


def _number(path: Path) -> int:
    text = _text(path).strip()
    return 0 if text == "max" else int(text)


def _pairs(path: Path) -> dict[str, int]:
    """A flat keyed file: a word and a number a line; other lines are passed over."""
    found: dict[str, int] = {}
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def _text(path: Path) -> str:
    """A kernel file in one read: they are small, and a file object costs more than they do."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_BYTES).decode("ascii", "replace")
    finally:
        os.close(fd)
