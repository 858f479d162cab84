"""Alarms and events go out by a thread of their own: the loop never waits for a disk, and nothing is forgotten meanwhile."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from ecsdk import Client, EsdkError

RETRY_S = 1.0
WAITING = 1000


class Herald:
    """Tells the gateway in order, and again until it has heard. `crash` is what ended it."""

    def __init__(self, client: Client) -> None:
        self.crash: BaseException | None = None
        self._client = client
        self._waiting: queue.Queue[Callable[[], Any] | None] = queue.Queue(WAITING)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)
        self._thread.start()

    def alarm(self, code: str, message: str, severity: str) -> None:
        """Raise an alarm."""
        self._put(lambda: self._client.alarms.raise_(code, message, severity))

    def clear(self, code: str) -> None:
        """Clear an alarm; there may be none."""
        self._put(lambda: self._client.alarms.clear(code))

    def event(self, name: str, data: dict[str, Any], priority: str, t: int) -> None:
        """Hand over a high-value event."""
        self._put(lambda: self._client.uplink.event(name, data, priority=priority, t=t))

    def publish(self, samples: dict[str, float], t: int) -> None:
        """Hand over samples of this APP's own points."""
        self._put(lambda: self._client.points.send([{"p": p, "v": v, "t": t} for p, v in samples.items()]))

    def log(self, level: str, event: str, **fields: Any) -> None:
        """One JSON line on standard output, where `ecgw app logs` finds it whether or not the agent runs."""
        sys.stdout.write(json.dumps({"level": level, "event": event, **fields}, default=str) + "\n")
        sys.stdout.flush()

    def close(self, within_s: float = 2.0) -> None:
        """Say what waits, once, and end."""
        self._ended.set()
        self._put(None)
        self._thread.join(within_s)

    def _put(self, tell: Callable[[], Any] | None) -> None:
        try:
            self._waiting.put_nowait(tell)
        except queue.Full:
            self.log("error", "too much to tell", waiting=WAITING)

    def _run(self) -> None:
        try:
            while (tell := self._waiting.get()) is not None:
                while not self._told(tell):
                    if self._ended.wait(RETRY_S):
                        return
        except BaseException as crash:
            self.crash = crash

    def _told(self, tell: Callable[[], Any]) -> bool:
        try:
            tell()
        except EsdkError as error:
            if error.retry_after_s:
                return False
            # Refused for good, a missing grant for instance: saying it again would not help, and must not stop the rest.
            self.log("error", "refused", error=str(error))
        return True
