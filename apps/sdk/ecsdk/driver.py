"""The driver side of outputs: writes are done and answered, and silence ends in the safe value."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from ecsdk.records import Command, Device, Safe, Scalar

if TYPE_CHECKING:
    from ecsdk.client import Client

RETRY_S = 1.0


class Driver:
    """Runs `write` for each command, and `apply_safe` for each output whose silence has lasted ``after_s``.

    Silence of an output begins with its last write: whoever controls it writes it again and again, and it is safe when
    the rule, the writer, the APP or the agent falls silent. With ``silence="gateway"`` a sign of life of the agent
    counts as well, for outputs that are written only when something changes. The time before the first write counts
    from the start of the driver.

    `write` raises to refuse; its text is the answer. `apply_safe` is tried again every second while it raises. Both
    are called one at a time.
    """

    def __init__(
        self,
        client: Client,
        write: Callable[[Command], None],
        apply_safe: Callable[[str, Scalar], None],
        *,
        silence: Literal["writes", "gateway"] = "writes",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._write = write
        self._apply_safe = apply_safe
        self._by_gateway = silence == "gateway"
        self._now = now
        self._watches: dict[str, _Watch] = {}
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._woken = threading.Event()
        self._commands = client.commands.watch()
        self._devices = client.devices.watch()

    def run(self) -> None:
        """Serve until `close`. Raises EsdkError when the gateway refuses the streams."""
        watcher = threading.Thread(target=self._watch, name="ecsdk safe values", daemon=True)
        watcher.start()
        self._devices.each(self.configure, name="ecsdk devices")
        try:
            for command in self._commands:
                self._client.commands.respond(command, self.handle)
        finally:
            self.close()
            watcher.join()

    def close(self) -> None:
        """End, from any thread. Outputs stay as they are."""
        self._ended.set()
        self._woken.set()
        self._commands.close()
        self._devices.close()

    def configure(self, devices: Iterable[Device]) -> None:
        """Take the safe values of all outputs; the silence of those known already goes on."""
        found = {point.name: point.safe for device in devices for point in device.points if point.safe is not None}
        with self._turn:
            now_s = self._now()
            for name, safe in found.items():
                known = self._watches.get(name)
                if known is None:
                    self._watches[name] = _Watch(safe, now_s)
                else:
                    known.safe = safe
            for name in self._watches.keys() - found.keys():
                del self._watches[name]
        self._woken.set()

    def handle(self, command: Command) -> None:
        """Do one write; only one that was done ends the silence."""
        with self._turn:
            self._write(command)
            if command.safe is not None:
                watch = self._watches.setdefault(command.point, _Watch(command.safe, 0.0))
                watch.safe = command.safe
                watch.since_s = self._now()
                watch.applied = False
        self._woken.set()

    def check(self) -> float:
        """Apply what is due; the seconds until something may be due next."""
        wait_s = 1.0
        with self._turn:
            for name, watch in self._watches.items():
                left_s = self._silent_since(watch) + watch.safe.after_s - self._now()
                if left_s <= 0.0:
                    left_s = 1.0 if watch.applied else self._make_safe(name, watch)
                wait_s = min(wait_s, left_s)
        return wait_s

    def _silent_since(self, watch: _Watch) -> float:
        return max(watch.since_s, self._commands.heard_s) if self._by_gateway else watch.since_s

    def _make_safe(self, name: str, watch: _Watch) -> float:
        try:
            self._apply_safe(name, watch.safe.value)
        except Exception as error:
            self._client.log_soon("error", f"safe value of {name} not applied: {error}")
            return RETRY_S
        watch.applied = True
        self._client.log_soon("warning", f"safe value applied to {name} after {watch.safe.after_s:g} s of silence")
        return 1.0

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._woken.clear()
            self._woken.wait(self.check())


class _Watch:
    __slots__ = ("applied", "safe", "since_s")

    def __init__(self, safe: Safe, since_s: float) -> None:
        self.safe = safe
        self.since_s = since_s
        self.applied = False
