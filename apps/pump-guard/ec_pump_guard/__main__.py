"""The process: newest pressure in, valve out; beats, and ends loudly when anything is wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecsdk import Client, EsdkError, Sample

from ec_pump_guard.control import Decision, Guard, Limits, Notice
from ec_pump_guard.figures import Reactions
from ec_pump_guard.herald import Herald

TICK_S = 0.5
BEAT_S = 1.0
FIGURES_EVERY_S = 10.0


class GuardFault(Exception):
    """A thread of this APP has ended: the APP ends and the gateway starts it again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A sample and when it came, monotonic seconds."""

    sample: Sample
    at_s: float


class Newest:
    """One slot between the stream and the loop: the loop acts on what is, not on what was."""

    def __init__(self) -> None:
        self._full = threading.Condition()
        self._held: Arrived | None = None

    def put(self, arrived: Arrived) -> None:
        """Replace what is held."""
        with self._full:
            self._held = arrived
            self._full.notify()

    def take(self, within_s: float) -> Arrived | None:
        """The newest value, or None after `within_s` without one."""
        with self._full:
            if self._held is None:
                self._full.wait(within_s)
            held, self._held = self._held, None
            return held


class App:
    """One running guard. `beat` is the file that the health check reads."""

    def __init__(self, client: Client, environ: Mapping[str, str], beat: Path) -> None:
        self._client = client
        self._name = environ.get("EC_APP", "pump-guard")
        self._pressure = environ.get("PRESSURE", "boiler/pressure")
        self._valve = environ.get("VALVE", "boiler/valve")
        self._beat = beat
        limits = Limits(float(environ.get("LIMIT_BAR", "6.5")), float(environ.get("BAND_BAR", "0.5")))
        self.guard = Guard(limits, silent_s=float(environ.get("SILENT_S", "10")))
        self.reactions = Reactions()
        self._herald = Herald(client)
        self._newest = Newest()
        self._stream = client.points.watch(self._pressure)
        self._reader = threading.Thread(target=self._read, name="pressure", daemon=True)
        self._crash: BaseException | None = None
        self._ended = threading.Event()
        self._beat_s = self._figures_s = 0.0
        self._told = 0

    def run(self) -> None:
        """Run until `stop`. Raises what ended it otherwise."""
        self._herald.log("info", "started", app=self._name, limit_bar=self.guard.limits.limit_bar)
        self._reader.start()
        try:
            while not self._ended.is_set():
                arrived = self._newest.take(TICK_S)
                if arrived is None:
                    self._act(self.guard.tick(time.monotonic()), None)
                else:
                    self._consider(arrived)
                self._keep_house()
        finally:
            # The valve stays: an upgrade must not move it.
            self._stream.close()
            self._herald.close()

    def stop(self) -> None:
        """End `run`, from any thread or a signal."""
        self._ended.set()

    def _read(self) -> None:
        try:
            for sample in self._stream:
                self._newest.put(Arrived(sample, time.monotonic()))
        except BaseException as crash:
            self._crash = crash

    def _consider(self, arrived: Arrived) -> None:
        value = arrived.sample.v
        number = float(value) if isinstance(value, int | float) else float("nan")
        self._act(self.guard.see(number, good=arrived.sample.q == "good", now_s=arrived.at_s), arrived)

    def _act(self, decision: Decision, arrived: Arrived | None) -> None:
        t = time.time_ns() // 1_000_000
        if decision.opening is not None and arrived is not None:
            try:
                self._client.points.write(self._valve, decision.opening)
            except EsdkError as error:
                self.guard.lost()
                self._herald.log("error", "valve not written", opening=decision.opening, error=str(error))
            else:
                self.reactions.add((time.monotonic() - arrived.at_s) * 1000)
                self._herald.publish({f"{self._name}/opening": float(decision.opening)}, t)
        for notice in decision.notices:
            self._tell(notice, arrived.sample.v if arrived is not None else None, t)

    def _tell(self, notice: Notice, pressure: object, t: int) -> None:
        limit = self.guard.limits.limit_bar
        data = {"pressure": pressure, "limit_bar": limit, "point": self._pressure}
        self._herald.log("warning" if notice in (Notice.OVERPRESSURE, Notice.BLIND) else "info", notice.value, **data)
        if notice is Notice.OVERPRESSURE:
            self._herald.event("overpressure", data, "critical", t)
            self._herald.alarm("overpressure", f"{self._pressure} is {pressure} bar, over {limit:g} bar", "critical")
        elif notice is Notice.RELIEVED:
            self._herald.clear("overpressure")
            self._herald.event("relieved", data, "normal", t)
        elif notice is Notice.BLIND:
            self._herald.alarm("no_pressure", f"{self._pressure} has no good value", "major")
        else:
            self._herald.clear("no_pressure")

    def _keep_house(self) -> None:
        now = time.monotonic()
        if now - self._beat_s < BEAT_S:
            return
        self._beat_s = now
        if not self._reader.is_alive():
            raise GuardFault("the stream of pressures ended") from self._crash
        if self._herald.crash is not None:
            raise GuardFault("the herald crashed") from self._herald.crash
        self._beat.write_text(str(now))
        try:
            self._client.heartbeat()
        except EsdkError as error:
            if not error.retry_after_s:
                raise
        if self.reactions.count != self._told and now - self._figures_s >= FIGURES_EVERY_S:
            self._told, self._figures_s = self.reactions.count, now
            figures = self.reactions.summary()
            self._herald.log("info", "reaction", **figures)
            names = {f"{self._name}/reaction_{key}": figures[key] for key in ("p50_ms", "p99_ms")}
            self._herald.publish(names, time.time_ns() // 1_000_000)


def main() -> None:
    """Run as the container's process."""
    beat = Path(os.environ.get("BEAT_FILE", "/tmp/beat"))  # noqa: S108 - the container's own
    app = App(Client(timeout_s=6.0, patience_s=0.0), os.environ, beat)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    app.run()


if __name__ == "__main__":
    main()
