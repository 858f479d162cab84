"""A real Modbus TCP server for the driver's tests, with a thread of its own and faults on request."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any, Self, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


class ModbusServer:
    """64 registers in each of the four tables. `requests` counts them; `stuck` makes writes to a register vanish."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.requests: list[tuple[int, int, int]] = []
        self.stuck: set[int] = set()
        self.missing: set[int] = set()
        self._values: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._server: ModbusTcpServer | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening and close every connection. Does nothing the second time."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._thread.join(10)
        self._loop.close()

    def set(self, register: int, *words: int) -> None:
        """Put words into the holding and input registers from `register` on."""
        self._values.update({register + offset: word for offset, word in enumerate(words)})

    def word(self, register: int) -> int:
        """What a register holds."""
        return self._values.get(register, 0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._loop.run_forever()

    async def _start(self) -> None:
        registers = [SimData(0, count=64, values=0, datatype=DataType.REGISTERS)]
        bits = [SimData(0, count=4, values=[False] * 16, datatype=DataType.BITS)]
        device = SimDevice(id=1, simdata=(bits, list(bits), list(registers), list(registers)), action=self._access)
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await self._server.serve_forever(background=True)
        self._ready.set()

    async def _stop(self) -> None:
        assert self._server is not None
        # Accept nobody any more, then let those in who are at the door: a connection that is made while the server
        # closes leaves its socket behind (asyncio asserts in the transport's constructor).
        listener = cast("asyncio.Server", self._server.transport)
        for sock in listener.sockets:
            self._loop.remove_reader(sock.fileno())
        await self._others()
        await self._server.shutdown()  # type: ignore[no-untyped-call]
        await self._others()
        self._loop.call_soon(self._loop.stop)

    async def _others(self) -> None:
        """Let every other task end, and transports report their end in the turns after."""
        for _ in range(5):
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)
            await asyncio.sleep(0)

    async def _access(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        if function not in (5, 6, 15, 16) or values is not None:  # a write looks at the register once more, to echo it
            self.requests.append((function, address, count))
        if any(address + offset in self.missing for offset in range(count)):
            return ExcCodes.ILLEGAL_ADDRESS
        if function in (3, 4):
            registers[:] = [self.word(start + offset) for offset in range(len(registers))]
        if values is not None and function in (6, 16):
            for offset, value in enumerate(values):
                if address + offset not in self.stuck:
                    self._values[address + offset] = int(value)
        return None


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
