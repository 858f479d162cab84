"""Where a point lives in a device, and how its bits become a value and back."""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WORDS = {"uint16": 1, "int16": 1, "uint32": 2, "int32": 2, "float32": 2, "bool": 1}
FORMATS = {"uint16": "H", "int16": "h", "uint32": "I", "int32": "i", "float32": "f"}
TABLES = {"holding": True, "input": False, "coil": True, "discrete": False}
"""Table -> whether it can be written."""
BIT_TABLES = frozenset({"coil", "discrete"})
ORDERS = ("abcd", "cdab", "badc", "dcba")
SHAPES = frozenset({"", "float", "int", "bool"})
KEYS = frozenset({"register", "table", "type", "scale", "order"})
Value = bool | int | float


class AddressError(ValueError):
    """An address in the device file that this driver cannot use: what is wrong, and what is allowed."""


class ValueRefused(ValueError):
    """A value that the register cannot hold."""


@dataclass(frozen=True, slots=True)
class Register:
    """One point's place. `scale` times the raw number is the value; `order` is the order of the bytes of 32 bits.

    `shape` is the point's own type on the gateway (float, int, bool; "" any): what is handed over fits it.
    """

    point: str
    register: int
    table: str = "holding"
    type: str = "uint16"
    scale: float = 1.0
    order: str = "abcd"
    shape: str = ""

    @property
    def words(self) -> int:
        """How many registers (or bits) it covers."""
        return WORDS[self.type]

    @property
    def writable(self) -> bool:
        """Whether the protocol can write it."""
        return TABLES[self.table]


def read_register(point: str, address: Mapping[str, Any], shape: str = "") -> Register:
    """The `address` of a point in the device file. Raises AddressError naming the key."""
    if shape not in SHAPES:
        raise AddressError(f"{point}: a register holds no {shape}; allowed types of the point: float, int, bool")
    for key in address:
        if key not in KEYS:
            raise AddressError(f"{point}: unknown key '{key}' in address; {_nearest(key, KEYS)}")
    if "register" not in address:
        raise AddressError(f"{point}: address has no 'register'; for example {{register: 0, table: holding}}")
    number = address["register"]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 65_535:
        raise AddressError(f"{point}: register {number!r} is not a whole number from 0 to 65535")
    table = _one_of(point, "table", address.get("table", "holding"), TABLES)
    bits = table in BIT_TABLES
    kind = _one_of(point, "type", address.get("type", "bool" if bits else "uint16"), WORDS)
    if bits != (kind == "bool"):
        raise AddressError(
            f"{point}: type {kind} does not fit table {table}; coil and discrete hold bool, the others numbers"
        )
    scale = address.get("scale", 1)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale) or scale == 0:
        raise AddressError(f"{point}: scale {scale!r} is not a number other than 0")
    order = _one_of(point, "order", address.get("order", "abcd"), ORDERS)
    if number + WORDS[kind] > 65_536:
        raise AddressError(f"{point}: a {kind} at register {number} reaches past 65535")
    return Register(point, number, table, kind, float(scale), order, shape)


def decode(register: Register, words: Sequence[int | bool]) -> Value | None:
    """The value in `words` (as many as it covers), or None where they hold no number (NaN, infinity)."""
    value = _decode(register, words)
    if value is None or not register.shape:
        return value
    if register.shape == "bool":
        return bool(value)
    return round(value) if register.shape == "int" else float(value)


def _decode(register: Register, words: Sequence[int | bool]) -> Value | None:
    if register.type == "bool":
        return bool(words[0])
    packed = struct.pack(f">{len(words)}H", *(int(word) for word in words))
    raw = struct.unpack(">" + FORMATS[register.type], _reorder(packed, register.order))[0]
    if register.type == "float32":
        value = float(raw) * register.scale
        return value if math.isfinite(value) else None
    if register.scale == 1:
        return int(raw)
    # 0.1 has no exact binary form: 653 * 0.1 would show as 65.30000000000001.
    return float(f"{raw * register.scale:.12g}")


def encode(register: Register, value: Any) -> list[int]:
    """The words (or the bit) that hold `value`. Raises ValueRefused."""
    if register.shape == "bool" and isinstance(value, bool):
        value = int(value)
    if register.type == "bool":
        if isinstance(value, bool) or value in (0, 1):
            return [int(value)]
        raise ValueRefused(f"{register.point}: {value!r} is not true, false, 0 or 1")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueRefused(f"{register.point}: {value!r} is not a number")
    raw = value / register.scale if register.scale != 1 else value
    try:
        packed = struct.pack(">" + FORMATS[register.type], float(raw) if register.type == "float32" else round(raw))
    except (struct.error, OverflowError) as error:
        raise ValueRefused(f"{register.point}: {value!r} does not fit {register.type}") from error
    ordered = _reorder(packed, register.order)
    return list(struct.unpack(f">{len(ordered) // 2}H", ordered))


def _reorder(packed: bytes, order: str) -> bytes:
    """From the wire's order to big-endian, or back: each of the four orders is its own inverse."""
    if len(packed) == 2:
        return packed[::-1] if order in ("badc", "dcba") else packed
    a, b, c, d = packed
    return bytes({"abcd": (a, b, c, d), "cdab": (c, d, a, b), "badc": (b, a, d, c), "dcba": (d, c, b, a)}[order])


def _one_of(point: str, key: str, value: Any, allowed: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in set(allowed):
        raise AddressError(f"{point}: {key} {value!r} is not known; {_nearest(str(value), allowed)}")
    return value


def _nearest(word: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(allowed), n=1)
    return f"did you mean '{near[0]}'?" if near else "allowed: " + ", ".join(sorted(allowed))
