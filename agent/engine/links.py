"""The host's interfaces and who is a port of whom, by one question to the kernel: what an engine does not notice itself."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_WITHIN_S = 2.0
_THREAD_WITHIN_S = 10.0
_READ_BYTES = 1 << 16
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")
_ATTRIBUTE = struct.Struct("=HH")
_NEW_LINK, _GET_LINK = 16, 18
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x1 | 0x300
_DUMP_CHANGED = 0x10
_NAME, _MASTER, _MASK = 3, 10, 29
_NO_STATISTICS = 8


async def look_at_ports(engine_socket: str) -> dict[str, int] | None:
    """As `read_ports`, in a thread; None also where none was free for it in time."""
    try:
        async with asyncio.timeout(_THREAD_WITHIN_S):
            return await asyncio.to_thread(read_ports, engine_socket)
    except TimeoutError:
        return None


def read_ports(engine_socket: str) -> dict[str, int] | None:
    """How many ports each interface has; None where nothing is to be judged. Up to seconds: for threads.

    The engine may live in another network than the agent, where its bridges are. It is only believed to share ours when
    whoever listens at its socket does.
    """
    try:
        return count_ports(_dump()) if _shares_network(engine_socket) else None
    except (OSError, ValueError):
        return None


def count_ports(dump: bytes) -> dict[str, int]:
    """The ports of each interface in a dump of links. ValueError when it is cut off, or the links changed meanwhile."""
    links = list(_read_links(dump))
    names = {index: name for index, name, _ in links}
    ports = dict.fromkeys(names.values(), 0)
    for _, _, master in links:
        if master in names:
            ports[names[master]] += 1
    return ports


def _shares_network(engine_socket: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_WITHIN_S)
        asking.connect(engine_socket)
        pid: int = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    # Of a process in another pid namespace the kernel says 0.
    return pid > 0 and Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink()


def _dump() -> bytes:
    mask = _ATTRIBUTE.pack(8, _MASK) + struct.pack("=I", _NO_STATISTICS)
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0) + mask
    answer = bytearray()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        asking.settimeout(_WITHIN_S)
        asking.send(_HEADER.pack(_HEADER.size + len(body), _GET_LINK, _REQUEST_DUMP, 1, 0) + body)
        while True:
            part = asking.recv(_READ_BYTES)
            answer += part
            kinds = [kind for kind, _, _ in _split(part)]
            if _DONE in kinds or _ERROR in kinds or not kinds:
                return bytes(answer)


def _read_links(dump: bytes) -> Iterator[tuple[int, str, int]]:
    """Index, name and master (0: none) of each link."""
    complete = False
    for kind, flags, body in _split(dump):
        if kind == _ERROR or flags & _DUMP_CHANGED:
            raise ValueError("the kernel did not tell all links")
        complete = complete or kind == _DONE
        if kind != _NEW_LINK:
            continue
        if len(body) < _LINK.size:
            raise ValueError("a link is cut off")
        found = dict(_attributes(body[_LINK.size :]))
        name = found.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
        yield _LINK.unpack_from(body)[3], name, int.from_bytes(found.get(_MASTER, b"")[:4], sys.byteorder)
    if not complete:
        raise ValueError("the links do not end")


def _split(messages: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and body of each message."""
    at = 0
    while at < len(messages):
        if len(messages) - at < _HEADER.size:
            raise ValueError("a message is cut off")
        length, kind, flags, _, _ = _HEADER.unpack_from(messages, at)
        if not _HEADER.size <= length <= len(messages) - at:
            raise ValueError("a message is cut off")
        yield kind, flags, messages[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            raise ValueError("an attribute is cut off")
        if kind in (_NAME, _MASTER):
            yield kind, body[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
