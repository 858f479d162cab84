"""A field device for the lab: a Modbus TCP server that replays a recorded series and says when its registers changed.

    python -m deploy.lab.plant --host 127.0.0.1 --port 5020 --log plant.jsonl --rate 10

Holding registers of unit 1 (numbers are big-endian, high word first):

    0-1   temp      float32, degrees C: the recorded series, scaled to a boiler's
    2-3   pressure  float32, bar: the same series half a year on, scaled; or a surge
    10    valve     uint16, 0 to 100 %
    20    force     uint16, hundredths of a bar: holds the pressure there; 0 lets it follow the series again
    21    index     uint16, read only: how far the series has been replayed

The log has one JSON object a line with `ns`, the machine's monotonic clock (the same in every process and container):
`cross` when the pressure passes the limit, `served` when a reader was first given that, `write` when a register was written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from deploy.lab.process import LabError
from deploy.lab.series import sea_temperature

TEMP, PRESSURE, VALVE, FORCE, INDEX, SIZE = 0, 2, 10, 20, 21, 22
WRITABLE = {VALVE: "valve", FORCE: "force"}


@dataclass(frozen=True, slots=True)
class Surges:
    """A pressure step of its own accord: `count` times (0: for ever), every `every_s`, `last_s` long, at `bar`."""

    every_s: float
    last_s: float
    bar: float = 7.5
    count: int = 0


class Boiler:
    """The device's state. `limit_bar` only decides what the log calls a crossing; the device reacts to nothing itself."""

    def __init__(self, series: Sequence[float], limit_bar: float, log: TextIO) -> None:
        self._series = series
        self._limit_bar = limit_bar
        self._log = log
        self._index = 0
        self._surge_bar = 0.0
        self._force = 0
        self._valve = 100
        self._pressure = 0.0
        self._above = False
        self._unserved = False
        self.move_to(0)

    def move_to(self, index: int) -> None:
        """Replay the series up to `index`; it starts over at its end."""
        self._index = index
        self._settle()

    def surge(self, bar: float) -> None:
        """Hold the pressure at `bar`; 0 ends the surge."""
        self._surge_bar = bar
        self._settle()

    def _settle(self) -> None:
        recorded = self._series[(self._index + len(self._series) // 2) % len(self._series)]
        self._pressure = self._force / 100 or self._surge_bar or 4.0 + recorded / 10
        above = self._pressure > self._limit_bar
        if above != self._above:
            self._above, self._unserved = above, True
            self._note("cross", way="above" if above else "below", pressure=round(self._pressure, 3))

    async def access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """What the server calls at each request, before it answers: refresh the registers, take what is written."""
        if values is not None:
            return self._write(address, [int(value) for value in values])
        recorded = self._series[self._index % len(self._series)]
        for at, value in ((TEMP, 60.0 + 2 * recorded), (PRESSURE, self._pressure)):
            registers[at - start : at - start + 2] = struct.unpack(">HH", struct.pack(">f", value))
        for at, word in ((VALVE, self._valve), (FORCE, self._force), (INDEX, self._index % 65_536)):
            registers[at - start] = word
        if self._unserved and function == 3 and address <= PRESSURE < address + count:
            self._unserved = False
            self._note("served", way="above" if self._above else "below")
        return None

    def _write(self, address: int, values: list[int]) -> ExcCodes | None:
        if any(address + offset not in WRITABLE for offset in range(len(values))):
            return ExcCodes.ILLEGAL_ADDRESS
        if address == VALVE and values[0] > 100:
            return ExcCodes.ILLEGAL_VALUE
        for offset, value in enumerate(values):
            name = WRITABLE[address + offset]
            before = self._valve if name == "valve" else self._force
            self._note("write", register=name, before=before, after=value)
            if name == "valve":
                self._valve = value
            else:
                self._force = value
                self._settle()
        return None

    def _note(self, event: str, **fields: Any) -> None:
        self._log.write(json.dumps({"ns": time.monotonic_ns(), "event": event, **fields}) + "\n")
        self._log.flush()


async def replay(boiler: Boiler, rate_hz: float) -> None:
    """Move the series on at `rate_hz` values a second, by the clock, so that a late wake-up loses nothing."""
    begun = time.monotonic()
    while True:
        boiler.move_to(int((time.monotonic() - begun) * rate_hz))
        await asyncio.sleep(1 / rate_hz)


async def run_surges(boiler: Boiler, surges: Surges) -> None:
    """Step the pressure up and down."""
    done = 0
    while surges.count == 0 or done < surges.count:
        await asyncio.sleep(surges.every_s)
        boiler.surge(surges.bar)
        await asyncio.sleep(surges.last_s)
        boiler.surge(0.0)
        done += 1


async def serve(boiler: Boiler, host: str, port: int, rate_hz: float, surges: Surges | None) -> None:
    """Serve until SIGTERM or Ctrl-C. Says on standard output where it listens (`port` 0: any free one)."""
    device = SimDevice(
        id=1, simdata=[SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS)], action=boiler.access
    )
    server = ModbusTcpServer(device, address=(host, port))
    try:
        await server.serve_forever(background=True)
    except RuntimeError as error:
        raise LabError(f"cannot listen on {host}:{port}", "see who does: ss -ltn") from error
    listener = cast("asyncio.Server", server.transport)
    taken = listener.sockets[0].getsockname()[1]
    print(f"plant listening on {host}:{taken}", flush=True)
    tasks = [asyncio.create_task(replay(boiler, rate_hz))]
    if surges is not None:
        tasks.append(asyncio.create_task(run_surges(boiler, surges)))
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    await end.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.shutdown()  # type: ignore[no-untyped-call]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m deploy.lab.plant", description="A Modbus TCP device for the lab.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5020)
    parser.add_argument("--log", type=Path, required=True, help="JSON lines: crossings and writes with their times")
    parser.add_argument("--rate", type=float, default=10.0, help="recorded values a second (default: 10)")
    parser.add_argument("--limit", type=float, default=6.5, help="what the log calls a crossing, bar")
    parser.add_argument("--surge-every", type=float, default=0.0, help="step the pressure by itself, seconds apart")
    parser.add_argument("--surge-for", type=float, default=1.0, help="how long a step lasts, seconds")
    parser.add_argument("--surge-bar", type=float, default=7.5, help="the pressure of a step")
    parser.add_argument("--surges", type=int, default=0, help="how many steps (default: without end)")
    given = parser.parse_args(argv)
    surges = None
    if given.surge_every > 0:
        surges = Surges(given.surge_every, given.surge_for, given.surge_bar, given.surges)
    given.log.parent.mkdir(parents=True, exist_ok=True)
    series = [celsius for _, celsius in sea_temperature()]
    with given.log.open("a", encoding="utf-8") as log:
        asyncio.run(serve(Boiler(series, given.limit, log), given.host, given.port, given.rate, surges))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
