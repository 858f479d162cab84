"""The two APPs of the rule path and the three programs of its baseline. Standard library only: this text is a container's command.

Times are CLOCK_MONOTONIC, which containers share. What was measured goes to standard output in lines of numbers.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

LINE = 200


def send_steadily(send: Callable[[int], None], count: int, rate: float) -> list[int]:
    """Call `send` `count` times at a steady rate; when each call began, in ns. One that is late is not waited for."""
    times: list[int] = []
    due_ns = time.monotonic_ns()
    for number in range(count):
        due_ns += int(1e9 / rate)
        while (wait_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / 1e9)
        times.append(time.monotonic_ns())
        send(number)
    return times


def tell(times: list[int]) -> None:
    """Write times as lines: each begins with a time, the others are differences from the one before."""
    for start in range(0, len(times), LINE):
        line, previous = [], 0
        for each in times[start : start + LINE]:
            line.append(str(each - previous))
            previous = each
        print(*line, flush=True)
    print("end", flush=True)


def wait_for_start() -> None:
    """Say that all is connected, and wait for SIGUSR1."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    print("ready", flush=True)
    signal.sigwait({signal.SIGUSR1})


# -- the eSDK's side ------------------------------------------------------------------------------------------------


def connect_esdk() -> socket.socket:
    """The socket that every APP has."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("/run/ec/esdk.sock")
    return sock


def produce(count: int, rate: float, rounds: int) -> None:
    """One sample a request; each is answered before the next goes."""
    sock = connect_esdk()
    bodies = [b'{"p":"producer/x","v":0.0}', b'{"p":"producer/x","v":1.0}']
    requests = [_request("/v1/points", body) for body in bodies]
    for _ in range(rounds):
        wait_for_start()
        tell(send_steadily(lambda number: _exchange(sock, requests[(number + 1) % 2]), count, rate))
    signal.pause()


def actuate(count: int, rounds: int) -> None:
    """Read the command stream and answer each command, as a driver does; when each command was read."""
    sock, answers = connect_esdk(), connect_esdk()
    sock.sendall(b"GET /v1/commands/stream HTTP/1.1\r\nHost: ec\r\n\r\n")
    print("ready", flush=True)
    times: list[int] = []
    rest = b""
    for _ in range(rounds):
        while len(times) < count:
            piece = sock.recv(65_536)
            now_ns = time.monotonic_ns()
            if not piece:
                raise SystemExit("the gateway ended the stream")
            *frames, rest = (rest + piece).split(b"\n\n")
            for frame in frames:
                if b"event: command" in frame:
                    times.append(now_ns)
                    name = frame.partition(b"id: ")[2].partition(b"\n")[0].decode()
                    _exchange(answers, _request(f"/v1/commands/{name}", b'{"ok":true}'))
        tell(times)
        times.clear()
    signal.pause()


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: ec\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _exchange(sock: socket.socket, request: bytes) -> None:
    """All answers here are short enough to come in one piece."""
    sock.sendall(request)
    answer = sock.recv(65_536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(answer.decode())


# -- the baseline's side: MQTT 3.1.1, QoS 0, as little as is needed ---------------------------------------------------


def connect_broker(port: int, name: str, topic: str = "") -> socket.socket:
    """A session, subscribed to `topic` if one is given."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_packet(0x10, _text("MQTT") + bytes([4, 2]) + struct.pack(">H", 60) + _text(name)))
    sock.recv(4)
    if topic:
        sock.sendall(_packet(0x82, struct.pack(">H", 1) + _text(topic) + b"\0"))
        sock.recv(5)
    return sock


def publish(sock: socket.socket, topic: str, payload: bytes) -> None:
    """QoS 0."""
    sock.sendall(_packet(0x30, _text(topic) + payload))


def messages(sock: socket.socket) -> Iterator[bytes]:
    """The payloads of what arrives; all shorter than 128 bytes."""
    rest = b""
    while True:
        while len(rest) >= 2 and len(rest) >= 2 + rest[1]:
            packet, rest = rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
            yield packet[2 + struct.unpack_from(">H", packet)[0] :]
        piece = sock.recv(65_536)
        if not piece:
            raise SystemExit("the broker ended the connection")
        rest += piece


def produce_by_broker(port: int, count: int, rate: float) -> None:
    """One sample a message."""
    sock = connect_broker(port, "producer")
    wait_for_start()
    bodies = [b'{"p":"producer/x","v":0.0}', b'{"p":"producer/x","v":1.0}']
    tell(send_steadily(lambda number: publish(sock, "sample", bodies[(number + 1) % 2]), count, rate))


def decide_by_broker(port: int, count: int) -> None:
    """What a rule does, and no more: read a sample, compare, publish a write."""
    import json

    sock = connect_broker(port, "rule", "sample")
    print("ready", flush=True)
    for number, payload in enumerate(messages(sock), 1):
        publish(
            sock, "write", b'{"p":"out/valve","v":1}' if json.loads(payload)["v"] > 0.5 else b'{"p":"out/valve","v":0}'
        )
        if number == count:
            return


def actuate_by_broker(port: int, count: int) -> None:
    """When each write was read."""
    sock = connect_broker(port, "actuator", "write")
    print("ready", flush=True)
    times: list[int] = []
    for _ in messages(sock):
        times.append(time.monotonic_ns())
        if len(times) == count:
            break
    tell(times)


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


def main(role: str, *words: str) -> None:
    """`role` and its numbers."""
    numbers = [int(word) for word in words]
    roles: dict[str, Callable[..., None]] = {
        "produce": produce,
        "actuate": actuate,
        "produce-by-broker": produce_by_broker,
        "decide-by-broker": decide_by_broker,
        "actuate-by-broker": actuate_by_broker,
    }
    roles[role](*numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
