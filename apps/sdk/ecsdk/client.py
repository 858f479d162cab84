"""The client: one object, one attribute a category."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self
from urllib.parse import quote, urlencode

from ecsdk.batch import Batch
from ecsdk.errors import EsdkError
from ecsdk.records import (
    Alarm,
    Command,
    Device,
    Fate,
    Sample,
    Scalar,
    Value,
    Written,
    read_alarm,
    read_command,
    read_device,
    read_fate,
    read_sample,
)
from ecsdk.stream import Stream
from ecsdk.wire import Wire

DeviceList = list[Device]
SampleLike = Sample | Mapping[str, Any] | tuple[str, Scalar]
COMMAND_SILENCE_S = 10.0
"""The gateway sends a sign of life every second on the command stream."""


class Client:
    """The gateway, from inside an APP's container. Use it from any thread.

    `path`: the socket, by default ``$EC_ESDK`` or ``/run/ec/esdk.sock``. `timeout_s`: how long an answer may take.
    `patience_s`: how long a request waits for a gateway that is restarting. Methods raise EsdkError when the gateway
    refuses and Unavailable when it does not answer.
    """

    def __init__(self, path: str | None = None, *, timeout_s: float = 10.0, patience_s: float = 10.0) -> None:
        self._wire = Wire(path, timeout_s, patience_s)
        self.points = Points(self._wire)
        self.commands = Commands(self._wire)
        self.devices = Devices(self._wire)
        self.config = Config(self._wire)
        self.alarms = Alarms(self._wire)
        self.uplink = Uplink(self._wire)

    def self_(self) -> dict[str, Any]:
        """What this APP is, may and uses."""
        body: dict[str, Any] = self._wire.request("GET", "/v1/self")
        return body

    def heartbeat(self, service: str = "", *, next_within_s: float = 0.0) -> None:
        """Say that this service is alive."""
        body: dict[str, object] = {"service": service} if service else {}
        if next_within_s:
            body["next_within_s"] = next_within_s
        self._wire.request("POST", "/v1/self/heartbeat", body)

    def gateway(self) -> dict[str, Any]:
        """The machine: facts, usage, thresholds. Needs ``gateway: true``."""
        body: dict[str, Any] = self._wire.request("GET", "/v1/gateway")
        return body

    def log(self, level: str, message: str, **fields: Any) -> None:
        """One line into this APP's log on the gateway; level is debug, info, warning or error."""
        self._wire.request("POST", "/v1/log", {"level": level, "message": message, "fields": fields})

    def log_soon(self, level: str, message: str) -> None:
        """Like `log`, from a thread of its own and without an error: for code that must not wait."""

        def write() -> None:
            with contextlib.suppress(EsdkError):
                self.log(level, message)

        threading.Thread(target=write, name="ecsdk log", daemon=True).start()

    def close(self) -> None:
        """Close idle connections; streams are closed by themselves."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Points:
    """Samples in, values out."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def send(self, samples: Iterable[SampleLike], *, durable: bool = False) -> int:
        """Hand over samples, all or nothing; rules have run when it returns. `durable`: return after the commit."""
        body = [_sample_json(each) for each in samples]
        answer = self._wire.request("POST", "/v1/points?durable=1" if durable else "/v1/points", body)
        return int(answer["accepted"])

    def batch(self, *, every_s: float = 0.1, size: int = 500, waiting: int = 20_000) -> Batch:
        """A gatherer of samples; see `Batch`."""
        return Batch(self.send, every_s=every_s, size=size, waiting=waiting)

    def latest(self, *names: str, filters: Iterable[str] = ()) -> list[Value]:
        """The latest values of points by name and by MQTT filter; without either, of all that may be read."""
        pairs = [("point", name) for name in names] + [("filter", each) for each in filters]
        values: list[Value] = []
        more, after = True, ""
        while more:
            query = urlencode([*pairs, ("after", after), ("limit", "1000")])
            body = self._wire.request("GET", f"/v1/points?{query}")
            page = [
                Value(each["p"], each["v"], each["t"], each["q"], each["received"], each.get("unit", ""))
                for each in body["points"]
            ]
            values += page
            more = body["more"] and bool(page)
            after = page[-1].p if page else ""
        return values

    def write(self, point: str, value: Scalar, *, mode: str = "direct") -> Written:
        """Write an output; returns when its owner has done it. mode: direct, select, operate or cancel."""
        body = self._wire.request("POST", "/v1/points/write", {"point": point, "value": value, "mode": mode})
        return Written(body["id"], body["point"], body["message"], body["took_ms"])

    def watch(self, *filters: str, initial: bool = True) -> Stream[Sample]:
        """New values. `initial`: begin (and begin again after each reconnect) with the latest of each."""
        pairs = [("filter", each) for each in filters] + [("initial", "1" if initial else "0")]
        return Stream(self._wire, f"/v1/points/stream?{urlencode(pairs)}", "sample", read_sample)


class Commands:
    """Writes of points this APP owns."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def watch(self) -> Stream[Command]:
        """The commands; each must be answered. The last listener of the proven version is the only one."""
        return Stream(self._wire, "/v1/commands/stream", "command", read_command, silence_s=COMMAND_SILENCE_S)

    def answer(self, command_id: str, ok: bool = True, message: str = "") -> bool:
        """Answer a command. False: nobody waits for this answer any more."""
        try:
            self._wire.request(
                "POST", f"/v1/commands/{quote(command_id, safe='')}", {"ok": ok, "message": message[:500]}
            )
        except EsdkError as error:
            if error.status == 404:
                return False
            raise
        return True

    def respond(self, command: Command, handler: Callable[[Command], str | None]) -> None:
        """Have `handler` do a command and answer it: done unless it raises."""
        try:
            ok, message = True, handler(command) or ""
        except Exception as error:
            ok, message = False, str(error) or type(error).__name__
        # The gateway may be gone by now: whoever wrote gets its 504.
        with contextlib.suppress(EsdkError):
            self.answer(command.id, ok, message)

    def serve(self, handler: Callable[[Command], str | None]) -> None:
        """Do and answer commands, one at a time, for ever. See `Driver` for safe values."""
        with self.watch() as stream:
            for command in stream:
                self.respond(command, handler)


class Devices:
    """The field devices this APP drives."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __call__(self) -> DeviceList:
        """The devices as the files say now."""
        return _devices(self._wire.request("GET", "/v1/devices"))

    def list(self) -> DeviceList:
        """The same."""
        return self()

    def watch(self) -> Stream[DeviceList]:
        """All devices, now and after each change of the files."""
        return Stream(self._wire, "/v1/devices/stream", "devices", _devices)

    def report(self, device: str, online: bool, stats: Mapping[str, float] | None = None) -> None:
        """Say whether a device answers; `stats` are at most 32 numbers of your own."""
        self._wire.request(
            "POST", "/v1/devices/report", {"device": device, "online": online, "stats": dict(stats or {})}
        )


class Config:
    """This APP's configuration."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def get(self) -> dict[str, Any]:
        """As it is now."""
        return _config(self._wire.request("GET", "/v1/config"))

    def watch(self) -> Stream[dict[str, Any]]:
        """Now and after each change."""
        return Stream(self._wire, "/v1/config/stream", "config", _config)


class Alarms:
    """This APP's alarms. Needs ``alarms: true``."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def raise_(self, code: str, message: str = "", severity: str = "major") -> Alarm:
        """Begin an episode, or count one more; severity is critical, major, minor or warning."""
        return Alarm(
            **self._wire.request("POST", "/v1/alarms", {"code": code, "message": message, "severity": severity})
        )

    def clear(self, code: str) -> bool:
        """End an episode. False: there is none."""
        try:
            self._wire.request("DELETE", f"/v1/alarms/{quote(code, safe='')}")
        except EsdkError as error:
            if error.code == "esdk.no_alarm":
                return False
            raise
        return True

    def list(self) -> list[Alarm]:
        """Those that stand."""
        return [read_alarm(each) for each in self._wire.request("GET", "/v1/alarms")["alarms"]]


class Uplink:
    """High-value events for the cloud. Needs ``uplink: [priorities]``."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def event(
        self,
        name: str,
        data: Any = None,
        *,
        priority: str = "critical",
        ttl_s: float | None = None,
        t: int | None = None,
    ) -> Fate:
        """Hand over an event; returns when it is on the gateway's disk."""
        body: dict[str, Any] = {"name": name, "data": data, "priority": priority, "ttl_s": ttl_s, "t": t}
        return read_fate(self._wire.request("POST", "/v1/uplink/events", body))

    def fate(self, event_id: str) -> Fate:
        """What became of it."""
        return read_fate(self._wire.request("GET", f"/v1/uplink/events/{quote(event_id, safe='')}"))


def _sample_json(sample: SampleLike) -> Mapping[str, Any]:
    if isinstance(sample, Sample):
        return sample.as_json()
    if isinstance(sample, tuple):
        return {"p": sample[0], "v": sample[1]}
    return sample


def _devices(body: Mapping[str, Any]) -> DeviceList:
    return [read_device(each) for each in body["devices"]]


def _config(body: Mapping[str, Any]) -> dict[str, Any]:
    return dict(body["config"])
