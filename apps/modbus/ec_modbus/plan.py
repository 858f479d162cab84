"""From the device file's content, as the eSDK hands it over, to what this driver does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ec_modbus.blocks import Block, group
from ec_modbus.registers import AddressError, Register, Value, read_register

DEVICE_KEYS = frozenset({"host", "port", "unit", "poll_s", "timeout_s"})


@dataclass(frozen=True, slots=True)
class Safe:
    """What an output gets after `after_s` seconds without a word from the gateway."""

    register: Register
    value: Value
    after_s: float


@dataclass(frozen=True, slots=True)
class Device:
    """One device: where it is, what to read and how often, what may be written, and the safe values."""

    name: str
    host: str
    port: int
    unit: int
    poll_s: float
    timeout_s: float
    blocks: tuple[Block, ...]
    outputs: Mapping[str, Register] = field(default_factory=dict)
    safe: tuple[Safe, ...] = ()

    @property
    def points(self) -> tuple[str, ...]:
        """All points that are read."""
        return tuple(register.point for block in self.blocks for register in block.registers)


def read_device(body: Mapping[str, Any], *, poll_s: float, timeout_s: float) -> tuple[Device | None, list[str]]:
    """One device and every mistake in its addresses; None where the device itself cannot be reached as described.

    A point with a mistake is left out and the others run: one typing error must not stop a boiler.
    """
    name = str(body.get("name", "?"))
    address = dict(body.get("address") or {})
    mistakes = [
        f"{name}: unknown key '{key}' in address; allowed: {', '.join(sorted(DEVICE_KEYS))}"
        for key in address
        if key not in DEVICE_KEYS
    ]
    host = address.get("host")
    if not isinstance(host, str) or not host:
        mistakes.append(f"{name}: address has no 'host'")
    port = _whole(name, "port", address.get("port", 502), 1, 65_535, mistakes)
    unit = _whole(name, "unit", address.get("unit", 1), 0, 255, mistakes)
    every = _seconds(name, "poll_s", address.get("poll_s", poll_s), mistakes)
    patience = _seconds(name, "timeout_s", address.get("timeout_s", timeout_s), mistakes)
    if mistakes:
        return None, mistakes
    registers: list[Register] = []
    outputs: dict[str, Register] = {}
    safe: list[Safe] = []
    for point in body.get("points") or ():
        try:
            register = read_register(str(point["name"]), point.get("address") or {}, str(point.get("type") or ""))
        except AddressError as error:
            mistakes.append(str(error))
            continue
        registers.append(register)
        if not point.get("writable"):
            continue
        if not register.writable:
            mistakes.append(f"{register.point}: table {register.table} cannot be written; use holding or coil")
            continue
        outputs[register.point] = register
        declared = point.get("safe")
        if declared:
            safe.append(Safe(register, declared["value"], float(declared["after_s"])))
    return (
        Device(name, str(host), port, unit, every, patience, group(registers), outputs, tuple(safe)),
        mistakes,
    )


def _whole(name: str, key: str, value: Any, low: int, high: int, mistakes: list[str]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        mistakes.append(f"{name}: {key} {value!r} is not a whole number from {low} to {high}")
        return low
    return value


def _seconds(name: str, key: str, value: Any, mistakes: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 3600:
        mistakes.append(f"{name}: {key} {value!r} is not a number of seconds from 0.01 to 3600")
        return 1.0
    return float(value)
