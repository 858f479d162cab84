"""What admission is told of the machine, read from files as the kernel writes them."""

from __future__ import annotations

import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.errors import TimedOut
from agent.host.metrics import SystemHost
from agent.host.premises import read_room, read_tree_bytes


def kernel(address: str, port: int) -> str:
    """An address and port as the kernel writes them: in words of the machine's byte order."""
    raw = ip_address(address).packed
    words = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, len(raw), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
FILES = {
    "sys/kernel/pid_max": "32768\n",
    "sys/kernel/threads-max": "15000\n",
    "sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    "net/tcp": HEAD
    + f"   0: {kernel('127.0.0.1', 8080)} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1\n"
    + f"   1: {kernel('0.0.0.0', 22)} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1\n"
    + f"   2: {kernel('127.0.0.1', 54321)} {kernel('127.0.0.1', 8080)} 01 00000000:00000000 00:00000000 00000000 0 0 1\n",
    "net/tcp6": HEAD + f"   0: {kernel('::', 80)} 0000:0000 0A 0:0 00:0 0 0 0 1\n",
    "net/udp": HEAD
    + f"   0: {kernel('0.0.0.0', 53)} 00000000:0000 07 0:0 00:0 0 0 0 1\n"
    + f"   1: {kernel('0.0.0.0', 49152)} 00000000:0000 07 0 0\n",
    "net/udp6": HEAD + f"   0: {kernel('::ffff:127.0.0.1', 123)} 00000000:0000 07 0:0 00:0 0 0 0 1\n",
}


def test_who_listens_is_read_with_address_and_without_passing_clients(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    room = read_room(tmp_path, tmp_path)
    assert room.listening == {
        (8080, "tcp", "127.0.0.1"),
        (22, "tcp", "0.0.0.0"),
        (80, "tcp", "::"),
        (53, "udp", "0.0.0.0"),
        (123, "udp", "127.0.0.1"),
    }
    assert room.pids == 15000
    assert room.disk_free_bytes is not None


def test_a_machine_that_says_nothing_is_not_known_and_not_empty(tmp_path: Path) -> None:
    room = read_room(tmp_path / "gone", tmp_path)
    assert (room.disk_free_bytes, room.pids, room.listening) == (None, 0, frozenset())


def test_this_machine_tells_of_a_socket_that_was_just_opened(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert (server.getsockname()[1], "tcp", "127.0.0.1") in read_room(tmp_path).listening


def test_who_listens_is_not_read_where_nobody_asks(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    room = read_room(tmp_path, tmp_path, listening=False)
    assert (room.listening, room.pids) == (frozenset(), 15000)


def test_a_folders_bytes_are_those_on_disk_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "in" / "link").symlink_to("/")
    assert 100_000 <= read_tree_bytes(tmp_path / "in") <= 200_000
    assert read_tree_bytes(tmp_path / "none") == 0


async def test_a_count_that_takes_too_long_is_tried_again_and_no_failure_of_the_agent(tmp_path: Path) -> None:
    host = SystemHost("/", tree_within_s=0)
    with pytest.raises(TimedOut) as caught:
        await host.tree_bytes(str(tmp_path))
    assert caught.value.code == "host.slow"
    assert caught.value.retryable
