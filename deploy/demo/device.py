"""A field device of the demo: the Modbus server in the plant's namespace, and a hand on its own terminal.

The hand forces the pressure, as a pump would; it never touches the valve. What the gateway did stands in the device's log.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from pymodbus.client import ModbusTcpClient

from deploy.demo.account import ClaimFailed
from deploy.lab.netns import Plant
from deploy.lab.plant import FORCE, VALVE
from deploy.lab.process import Child, wait_until
from deploy.lab.reactions import Reaction, read_reactions

HIGH_BAR = 7.5
REPLAY_HZ = 10


class FieldDevice:
    """One device server. `limit_bar` only decides what its log calls a crossing."""

    def __init__(self, name: str, plant: Plant, port: int, directory: Path) -> None:
        self.name = name
        self.port = port
        self.host = plant.address
        self.log = directory / f"{name}.jsonl"
        self.process: Child | None = None
        self._plant = plant
        self._directory = directory
        self._hand: Any = None

    def start(self, limit_bar: float = 6.5) -> None:
        """Serve the recorded series inside the plant."""
        argv = [sys.executable, "-m", "deploy.lab.plant", "--host", self.host, "--port", str(self.port)]
        argv += ["--log", str(self.log), "--rate", str(REPLAY_HZ), "--limit", str(limit_bar)]
        output = self._directory / f"{self.name}.log"
        self.process = self._plant.run(self.name, argv, output)
        wait_until(
            lambda: "plant listening" in output.read_text(errors="replace"),
            f"{self.name} listens",
            15,
            child=self.process,
        )
        self._hand = ModbusTcpClient(self.host, port=self.port, timeout=2)
        if not self._hand.connect():
            raise ClaimFailed(f"{self.name} at {self.host}:{self.port} cannot be reached from the host")

    def stop(self) -> None:
        """Let go of the terminal; the plant ends the server."""
        if self._hand is not None:
            self._hand.close()

    def force(self, bar: float) -> None:
        """Hold the pressure at `bar`; 0 lets it follow the recorded series again."""
        answer = self._hand.write_register(FORCE, round(bar * 100))
        if answer.isError():
            raise ClaimFailed(f"{self.name} refused the force register: {answer}")

    def valve(self) -> int:
        """The valve's register, percent."""
        answer = self._hand.read_holding_registers(VALVE, count=1)
        if answer.isError():
            raise ClaimFailed(f"{self.name} refused to be read: {answer}")
        return int(answer.registers[0])

    def await_valve(self, closed: bool, within_s: float = 5.0) -> None:
        """Until the valve is closed (0 %), or is not."""
        deadline = time.monotonic() + within_s
        while (self.valve() == 0) is not closed:
            if time.monotonic() > deadline:
                way = "closed" if closed else "opened"
                raise ClaimFailed(f"the valve of {self.name} was not {way} within {within_s:g} s")
            time.sleep(0.01)

    def surge(self, within_s: float = 5.0) -> None:
        """Pressure up until the valve is closed, then down until it is open; at moments that no poll knows of."""
        time.sleep(random.uniform(0.02, 0.12))
        self.force(HIGH_BAR)
        self.await_valve(closed=True, within_s=within_s)
        time.sleep(random.uniform(0.02, 0.12))
        self.force(0)
        self.await_valve(closed=False, within_s=within_s)

    def reactions(self, since_ns: int = 0) -> list[Reaction]:
        """Crossings that were answered by a write of the valve, from the device's own log."""
        return [reaction for reaction in read_reactions(self.log) if reaction.crossed_ns >= since_ns]

    def crossings(self, since_ns: int = 0) -> list[int]:
        """When the pressure passed the limit, monotonic ns."""
        return [entry["ns"] for entry in self._entries() if entry["event"] == "cross" and entry["ns"] >= since_ns]

    def valve_writes(self, since_ns: int = 0) -> list[tuple[int, int]]:
        """(monotonic ns, percent) of each write to the valve."""
        return [
            (entry["ns"], entry["after"])
            for entry in self._entries()
            if entry["event"] == "write" and entry["register"] == "valve" and entry["ns"] >= since_ns
        ]

    def _entries(self) -> list[dict[str, Any]]:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]
