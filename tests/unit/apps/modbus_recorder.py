"""Stands for the gateway in the driver's tests."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Recorder:
    """Keeps what the driver says."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.samples: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[bool, str]] = {}
        self.reports: list[tuple[str, bool, dict[str, Any]]] = []
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def publish(self, samples: Sequence[Mapping[str, Any]]) -> None:
        with self.lock:
            self.samples.extend(dict(sample) for sample in samples)

    def answer(self, command_id: str, ok: bool, message: str) -> None:
        self.answers[command_id] = (ok, message)

    def report(self, device: str, online: bool, stats: Mapping[str, Any]) -> None:
        self.reports.append((device, online, dict(stats)))

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append((level, event, fields))

    def latest(self, point: str) -> dict[str, Any]:
        with self.lock:
            return next((s for s in reversed(self.samples) if s["p"] == point), {})


def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def floats(value: float) -> tuple[int, int]:
    """A 32-bit float as two registers."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return high, low
