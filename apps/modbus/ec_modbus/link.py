"""One connection to one device. Every call has a deadline; failures are of two kinds, and so are their remedies."""

from __future__ import annotations

from typing import Any

from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient
from pymodbus.pdu import ModbusPDU

from ec_modbus.blocks import Block
from ec_modbus.registers import Register, Value, decode, encode

EXCEPTIONS = {1: "illegal function", 2: "illegal address", 3: "illegal value", 4: "device failure", 6: "device busy"}


class LinkDown(Exception):
    """The device does not answer: connection refused, lost, or no reply in time."""


class DeviceRefused(Exception):
    """The device answered with an exception: the address or value is not one of its own."""


class Link:
    """A Modbus TCP connection of one thread; opened at the first need, closed after a failure."""

    def __init__(self, host: str, port: int, unit: int, timeout_s: float) -> None:
        self._unit = unit
        self._where = f"{host}:{port}"
        # No retries inside the library: a poll comes round again, and a write's caller must hear of a failure in time.
        self._client = ModbusTcpClient(host, port=port, timeout=timeout_s, retries=0)

    def read(self, block: Block) -> dict[str, Value | None]:
        """The values of a block's points; None where the bits are no number."""
        call = {
            "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
            "coil": self._client.read_coils,
            "discrete": self._client.read_discrete_inputs,
        }[block.table]
        answer = self._ask(call, block.start, count=block.count)
        words: list[Any] = list(answer.bits if block.table in ("coil", "discrete") else answer.registers)
        if len(words) < block.count:
            self.close()
            raise LinkDown(f"{self._where} sent {len(words)} of {block.count} registers")
        return {
            one.point: decode(one, words[one.register - block.start : one.register - block.start + one.words])
            for one in block.registers
        }

    def write(self, register: Register, value: Any) -> Value | None:
        """Write, then read back what the register now holds. Raises ValueRefused before anything is sent."""
        words = encode(register, value)
        if register.table == "coil":
            self._ask(self._client.write_coil, register.register, bool(words[0]))
        elif len(words) == 1:
            self._ask(self._client.write_register, register.register, words[0])
        else:
            self._ask(self._client.write_registers, register.register, words)
        return self.read(Block(register.table, register.register, register.words, (register,)))[register.point]

    def close(self) -> None:
        """Give the connection up; the next call opens another."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _ask(self, call: Any, *arguments: Any, **options: Any) -> ModbusPDU:
        try:
            answer: ModbusPDU = call(*arguments, device_id=self._unit, **options)
        except (ModbusException, OSError) as error:
            # After a late reply the stream is out of step with the requests: a new connection is the cure.
            self.close()
            raise LinkDown(f"{self._where}: {error}") from error
        if answer.isError():
            code = int(getattr(answer, "exception_code", 0))
            raise DeviceRefused(f"{self._where} answered {EXCEPTIONS.get(code, f'exception {code}')}")
        return answer
