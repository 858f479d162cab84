"""One thread a device: polls it, writes to it, and applies safe values when the gateway has gone silent."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ec_modbus.latency import Latency
from ec_modbus.link import DeviceRefused, Link, LinkDown
from ec_modbus.plan import Device, Safe
from ec_modbus.registers import Value, ValueRefused

REPORT_EVERY_S = 10.0
RETRY_MAX_S = 10.0
WRITE_AGE_S = 5.0
"""After so long the gateway has told the writer that nobody answered: doing it now would surprise everybody."""


class Gateway(Protocol):
    """What a worker needs of the gateway. None of these raises: trouble with the gateway is handled behind them."""

    def publish(self, samples: Sequence[Mapping[str, Any]]) -> None: ...
    def answer(self, command_id: str, ok: bool, message: str) -> None: ...
    def report(self, device: str, online: bool, stats: Mapping[str, Any]) -> None: ...
    def log(self, level: str, event: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Write:
    """A command to write a point; `arrived_s` is monotonic."""

    id: str
    point: str
    value: Any
    arrived_s: float


@dataclass(slots=True)
class Stats:
    """Communication statistics since the start."""

    requests: int = 0
    failures: int = 0
    refusals: int = 0
    writes: int = 0
    reconnects: int = 0
    poll_ms: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """For the gateway's device list."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Worker:
    """Drives one device in its own thread. `heard_s` tells when the gateway was last heard of (monotonic seconds)."""

    def __init__(self, device: Device, gateway: Gateway, latency: Latency, heard_s: Callable[[], float]) -> None:
        self.device = device
        self.beat_s = time.monotonic()
        self._gateway = gateway
        self._latency = latency
        self._heard_s = heard_s
        self._link = Link(device.host, device.port, device.unit, device.timeout_s)
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._stats = Stats()
        self._online: bool | None = None
        self._last: dict[str, Value] = {}
        self._written_s = dict.fromkeys(device.outputs, time.monotonic())
        self._made_safe: set[str] = set()
        self._refused_blocks: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._run, name=f"device {device.name}", daemon=True)
        self.crash: BaseException | None = None

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Have a write done as soon as the request in progress is over."""
        self._writes.put(write)

    def stop(self, within_s: float = 5.0) -> None:
        """End the thread and the connection."""
        self._writes.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as crash:
            # The main thread ends the whole APP: half a driver that looks alive is worse than a restart.
            self.crash = crash
        finally:
            self._link.close()

    def _loop(self) -> None:
        next_poll = time.monotonic()
        next_report = next_poll + REPORT_EVERY_S
        pause_s = self.device.poll_s
        while True:
            now = self.beat_s = time.monotonic()
            self._apply_safe_values(now)
            if now >= next_poll:
                pause_s = self.device.poll_s if self._poll() else min(max(pause_s * 2, 1.0), RETRY_MAX_S)
                # Missed turns are skipped, not made up for.
                next_poll = max(next_poll + pause_s, time.monotonic())
            if now >= next_report:
                self._report()
                next_report = now + REPORT_EVERY_S
            wait_s = min(next_poll, next_report, self._next_safe(now)) - time.monotonic()
            try:
                write = self._writes.get(timeout=max(wait_s, 0.0)) if wait_s > 0 else self._writes.get_nowait()
            except queue.Empty:
                continue
            if write is None:
                return
            self._write(write)

    def _poll(self) -> bool:
        begun, t = time.monotonic(), time.time_ns() // 1_000_000
        samples: list[dict[str, Any]] = []
        for block in self.device.blocks:
            self._stats.requests += 1
            try:
                values = self._link.read(block)
            except LinkDown as error:
                self._stats.failures += 1
                self._go_offline(str(error))
                return False
            except DeviceRefused as error:
                self._stats.refusals += 1
                place = (block.table, block.start)
                if place not in self._refused_blocks:
                    self._refused_blocks.add(place)
                    points = ", ".join(register.point for register in block.registers)
                    self._gateway.log("error", "read refused", device=self.device.name, points=points, error=str(error))
                samples.extend(self._bad(register.point, t) for register in block.registers)
                continue
            for point, value in values.items():
                samples.append(self._bad(point, t) if value is None else self._good(point, value, t))
        self._stats.poll_ms = round((time.monotonic() - begun) * 1000, 3)
        if samples:
            self._gateway.publish(samples)
        self._go_online()
        return True

    def _good(self, point: str, value: Value, t: int) -> dict[str, Any]:
        self._last[point] = value
        return {"p": point, "t": t, "v": value}

    def _bad(self, point: str, t: int) -> dict[str, Any]:
        """The last known value, marked: rules and people see that it is not to be trusted."""
        return {"p": point, "t": t, "v": self._last.get(point, 0), "q": "bad"}

    def _go_online(self) -> None:
        if self._online is not True:
            if self._online is False:
                self._stats.reconnects += 1
            self._online = True
            self._gateway.log("info", "device online", device=self.device.name, host=self.device.host)
            self._report()

    def _go_offline(self, error: str) -> None:
        if self._online is not False:
            self._online = False
            self._gateway.log("warning", "device offline", device=self.device.name, error=error)
            t = time.time_ns() // 1_000_000
            if self.device.points:
                self._gateway.publish([self._bad(point, t) for point in self.device.points])
            self._report()

    def _report(self) -> None:
        if self._online is not None:
            self._gateway.report(self.device.name, self._online, self._stats.as_dict())

    def _write(self, write: Write) -> None:
        register = self.device.outputs.get(write.point)
        if register is None:
            self._gateway.answer(write.id, False, f"{write.point} is not an output of {self.device.name}")
            return
        waited_s = time.monotonic() - write.arrived_s
        if waited_s > WRITE_AGE_S:
            self._gateway.answer(write.id, False, f"too late: it waited {waited_s:.1f} s for {self.device.name}")
            return
        try:
            self._put(write.point, write.value)
        except (LinkDown, DeviceRefused, ValueRefused) as error:
            if isinstance(error, LinkDown):
                self._stats.failures += 1
                self._go_offline(str(error))
            self._gateway.answer(write.id, False, str(error))
            return
        self._latency.add((time.monotonic() - write.arrived_s) * 1000)
        self._written_s[write.point] = time.monotonic()
        self._made_safe.discard(write.point)
        self._gateway.answer(write.id, True, "")
        self._gateway.publish([self._good(write.point, self._last[write.point], time.time_ns() // 1_000_000)])

    def _put(self, point: str, value: Any) -> None:
        """Write and compare what the register then holds. Raises what the link raises, or DeviceRefused."""
        self._stats.requests += 2
        self._stats.writes += 1
        register = self.device.outputs[point]
        held = self._link.write(register, value)
        wanted = float(value)
        near = abs(register.scale) / 2 if register.type != "float32" else abs(wanted) * 1e-6
        if held is None or not math.isclose(float(held), wanted, abs_tol=near + 1e-9):
            raise DeviceRefused(f"{point}: wrote {value!r}, the register holds {held!r}")
        self._last[point] = held

    def _silent_since(self, safe: Safe) -> float:
        """The later of the last write to this output and the last word from the gateway."""
        return max(self._written_s[safe.register.point], self._heard_s())

    def _next_safe(self, now: float) -> float:
        due = [
            self._silent_since(safe) + safe.after_s
            for safe in self.device.safe
            if safe.register.point not in self._made_safe
        ]
        # Never later than a second: `heard_s` moves on in another thread.
        return min([now + 1.0, *due])

    def _apply_safe_values(self, now: float) -> None:
        for safe in self.device.safe:
            point = safe.register.point
            silent_s = now - self._silent_since(safe)
            if silent_s < safe.after_s:
                self._made_safe.discard(point)
                continue
            if point in self._made_safe:
                continue
            try:
                self._put(point, safe.value)
            except (LinkDown, DeviceRefused, ValueRefused) as error:
                if isinstance(error, LinkDown):
                    self._go_offline(str(error))
                    return
                self._gateway.log("error", "safe value refused", point=point, value=safe.value, error=str(error))
            else:
                self._gateway.log(
                    "warning", "safe value applied", point=point, value=safe.value, silent_s=round(silent_s, 1)
                )
            # Once an episode: a device that refuses the value is not to be hammered with it.
            self._made_safe.add(point)
