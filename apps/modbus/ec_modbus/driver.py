"""The set of devices of this instance: workers come, change and go with the device files; commands find theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ec_modbus.latency import Latency
from ec_modbus.plan import Device, read_device
from ec_modbus.worker import Gateway, Worker, Write

STUCK_S = 60.0


class DriverFault(Exception):
    """A worker has crashed or hangs: the APP ends and the gateway starts it again."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a device gets that says nothing of its own."""

    poll_s: float
    timeout_s: float


class Driver:
    """All workers. `gateway` is called from their threads. `heard_s` is as in `Worker`."""

    def __init__(self, gateway: Gateway, defaults: Defaults, heard_s: Callable[[], float]) -> None:
        self.latency = Latency()
        self._gateway = gateway
        self._defaults = defaults
        self._heard_s = heard_s
        self._workers: dict[str, Worker] = {}
        self._by_point: dict[str, Worker] = {}
        self._told: set[str] = set()

    @property
    def devices(self) -> dict[str, Device]:
        """What runs now, by name."""
        return {name: worker.device for name, worker in self._workers.items()}

    def apply(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Make the workers those of `bodies`. A device whose description did not change keeps running untouched."""
        wanted: dict[str, Device] = {}
        mistakes: set[str] = set()
        for body in bodies:
            device, found = read_device(body, poll_s=self._defaults.poll_s, timeout_s=self._defaults.timeout_s)
            mistakes.update(found)
            if device is not None:
                wanted[device.name] = device
            else:
                self._gateway.report(str(body.get("name", "")), False, {})
        for mistake in sorted(mistakes - self._told):
            self._gateway.log("error", "mistake in a device file", mistake=mistake)
        self._told = mistakes
        for name in [name for name, worker in self._workers.items() if wanted.get(name) != worker.device]:
            self._workers.pop(name).stop()
        for name, device in wanted.items():
            if name not in self._workers:
                worker = Worker(device, self._gateway, self.latency, self._heard_s)
                self._workers[name] = worker
                worker.start()
        self._by_point = {point: worker for worker in self._workers.values() for point in worker.device.points}

    def write(self, command: Mapping[str, Any]) -> None:
        """Hand a command to the worker of its point; it answers."""
        arrived_s = time.monotonic()
        worker = self._by_point.get(str(command.get("point")))
        if worker is None:
            self._gateway.answer(str(command.get("id")), False, f"{command.get('point')} is not a point of this driver")
            return
        worker.submit(Write(str(command["id"]), str(command["point"]), command.get("value"), arrived_s))

    def check(self) -> None:
        """Raises DriverFault when a worker has crashed or does not move."""
        now = time.monotonic()
        for name, worker in self._workers.items():
            if worker.crash is not None:
                raise DriverFault(f"the worker of {name} crashed") from worker.crash
            patience_s = STUCK_S + worker.device.timeout_s * (len(worker.device.blocks) + 3)
            if now - worker.beat_s > patience_s:
                raise DriverFault(f"the worker of {name} has not moved for {now - worker.beat_s:.0f} s")

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()
        self._by_point.clear()
