"""What admission must know of the machine as it is now: free disk, processes, who listens, how much a folder holds."""

from __future__ import annotations

import os
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from agent.ports import Room

_MOST_ENTRIES = 200_000
_LISTEN = "0A"
_UNCONNECTED = "07"


def read_room(folder: Path, proc: Path = Path("/proc"), *, listening: bool = True) -> Room:
    """The machine's room for one more APP. `folder` is where the engine keeps images and volumes.

    Less than 0.1 ms without `listening`; the kernel walks all its sockets to tell who listens, which is several ms.
    """
    return Room(_read_free(folder), _read_pids(proc), _read_listening(proc) if listening else frozenset())


def read_tree_bytes(folder: Path) -> int:
    """What a folder's files take on disk; of a very large one at least the first part. 0 where there is none."""
    total = entries = 0
    for where, _, names in os.walk(folder):
        for name in names:
            entries += 1
            try:
                total += Path(where, name).lstat().st_blocks * 512
            except OSError:
                continue
        if entries > _MOST_ENTRIES:
            break
    return total


def _read_free(folder: Path) -> int | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _read_pids(proc: Path) -> int:
    found = []
    for name in ("pid_max", "threads-max"):
        try:
            found.append(int((proc / "sys/kernel" / name).read_text()))
        except (OSError, ValueError):
            continue
    return min(found, default=0)


def _read_listening(proc: Path) -> frozenset[tuple[int, str, str]]:
    """Port, protocol and address of every socket that waits for others. A client's passing UDP port is none."""
    first_passing = _first_passing_port(proc)
    found = set()
    for table, protocol, state in (("tcp", "tcp", _LISTEN), ("udp", "udp", _UNCONNECTED)):
        for family in ("", "6"):
            try:
                rows = (proc / "net" / f"{table}{family}").read_text().splitlines()[1:]
            except OSError:
                continue
            for row in rows:
                fields = row.split()
                address, _, port_text = fields[1].partition(":")
                port = int(port_text, 16)
                if fields[3] == state and (protocol == "tcp" or port < first_passing):
                    found.add((port, protocol, _address(address)))
    return frozenset(found)


def _first_passing_port(proc: Path) -> int:
    try:
        return int((proc / "sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def _address(text: str) -> str:
    """The kernel's hexadecimal address, which is written in words of the machine's own byte order."""
    raw = b"".join(int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    if len(raw) == 4:
        return str(IPv4Address(raw))
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)
