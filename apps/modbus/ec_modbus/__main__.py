"""The process: joins the gateway's streams to the driver, beats, and ends loudly when anything is wrong."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ecsdk import Client, EsdkError

from ec_modbus.driver import Defaults, Driver, DriverFault
from ec_modbus.sender import Sender

TICK_S = 1.0
FIGURES_EVERY_S = 10.0


class Pump(threading.Thread):
    """A thread that reads one of the gateway's streams; `crash` is what ended it."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.crash: BaseException | None = None
        self._work = work

    def run(self) -> None:
        """Work until the stream is closed."""
        try:
            self._work()
        except BaseException as crash:
            self.crash = crash


class App:
    """One running driver. `beat` is the file that the health check reads."""

    def __init__(self, client: Client, environ: Mapping[str, str], beat: Path) -> None:
        self._client = client
        self._name = environ.get("EC_APP", "modbus")
        self._beat = beat
        self._sender = Sender(client)
        self._commands = client.commands.watch()
        self._devices = client.devices.watch()
        defaults = Defaults(poll_s=float(environ.get("POLL_S", "1")), timeout_s=float(environ.get("TIMEOUT_S", "1")))
        by_gateway = environ.get("SILENCE", "gateway") == "gateway"
        heard_s = (lambda: self._commands.heard_s) if by_gateway else (lambda: -math.inf)
        self.driver = Driver(self._sender, defaults, heard_s)
        self._pumps = [Pump("devices", self._follow_devices), Pump("commands", self._follow_commands)]
        self._ended = threading.Event()
        self._figures_s = time.monotonic()
        self._told = 0

    def run(self) -> None:
        """Run until `stop`. Raises what ended it otherwise."""
        self._sender.log("info", "started", app=self._name)
        for pump in self._pumps:
            pump.start()
        try:
            while not self._ended.wait(TICK_S):
                self._tick()
        finally:
            # Outputs stay as they are: an upgrade must not close a valve.
            self._commands.close()
            self._devices.close()
            self.driver.stop()
            self._sender.close()

    def stop(self) -> None:
        """End `run`, from any thread or a signal."""
        self._ended.set()

    def _tick(self) -> None:
        for pump in self._pumps:
            if not pump.is_alive():
                raise DriverFault(f"the stream of {pump.name} ended") from pump.crash
        if self._sender.crash is not None:
            raise DriverFault("the sender crashed") from self._sender.crash
        self.driver.check()
        self._beat.write_text(str(time.monotonic()))
        try:
            self._client.heartbeat()
        except EsdkError as error:
            if not error.retry_after_s:
                raise
        self._publish_figures()

    def _publish_figures(self) -> None:
        now = time.monotonic()
        count = self.driver.latency.count
        if count == self._told or now - self._figures_s < FIGURES_EVERY_S:
            return
        self._told, self._figures_s = count, now
        figures = self.driver.latency.summary()
        self._sender.log("info", "write latency", **figures)
        t = time.time_ns() // 1_000_000
        self._sender.publish(
            [
                {"p": f"{self._name}/write_count", "t": t, "v": figures["count"]},
                {"p": f"{self._name}/write_p50_ms", "t": t, "v": figures["p50_ms"]},
                {"p": f"{self._name}/write_p99_ms", "t": t, "v": figures["p99_ms"]},
            ]
        )

    def _follow_devices(self) -> None:
        for devices in self._devices:
            self.driver.apply([device.raw for device in devices])

    def _follow_commands(self) -> None:
        for command in self._commands:
            self.driver.write({"id": command.id, "point": command.point, "value": command.value})


def main() -> None:
    """Run as the container's process."""
    # No patience: samples wait in the sender, and a device's thread must never wait for the agent.
    beat = Path(os.environ.get("BEAT_FILE", "/tmp/beat"))  # noqa: S108 - the container's own
    app = App(Client(timeout_s=5.0, patience_s=0.0), os.environ, beat)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    app.run()


if __name__ == "__main__":
    main()
