"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import asyncio
import socket
import struct

from agent.http.messages import Peer


def peer_of(transport: asyncio.Transport) -> Peer:
    """The kernel's word on who connected."""
    sock = transport.get_extra_info("socket")
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return Peer(0, -1, -1)
    return Peer(*struct.unpack("3i", raw))
