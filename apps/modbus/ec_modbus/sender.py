"""Everything for the gateway goes out by one thread, so that a device never waits for an agent that restarts."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ecsdk import Client, EsdkError

BATCH = 1000
WAITING = 20_000
PAUSE_S = 0.5
ANSWER_AGE_S = 5.0
"""The gateway gives up on an answer after so long."""


class Sender:
    """Implements `worker.Gateway`. Samples wait for an agent that is away, the newest `WAITING` of them; answers do not."""

    def __init__(self, client: Client) -> None:
        self.dropped = 0
        self.crash: BaseException | None = None
        self._client = client
        self._wake = threading.Condition()
        self._samples: deque[Mapping[str, Any]] = deque(maxlen=WAITING)
        self._answers: deque[tuple[float, str, bool, str]] = deque(maxlen=256)
        self._reports: dict[str, tuple[bool, Mapping[str, Any]]] = {}
        self._refused: set[str] = set()
        self._away = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def publish(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Have samples sent."""
        with self._wake:
            self.dropped += max(0, len(self._samples) + len(samples) - WAITING)
            self._samples.extend(samples)
            self._wake.notify()

    def answer(self, command_id: str, ok: bool, message: str) -> None:
        """Have a command answered, ahead of samples."""
        with self._wake:
            self._answers.append((time.monotonic(), command_id, ok, message))
            self._wake.notify()

    def report(self, device: str, online: bool, stats: Mapping[str, Any]) -> None:
        """Have a device's state reported; only the last one counts."""
        with self._wake:
            self._reports[device] = (online, stats)
            self._wake.notify()

    def log(self, level: str, event: str, **fields: Any) -> None:
        """One JSON line on standard output, where `ecgw app logs` finds it whether or not the agent runs."""
        sys.stdout.write(json.dumps({"level": level, "event": event, **fields}, default=str) + "\n")
        sys.stdout.flush()

    def close(self, within_s: float = 2.0) -> None:
        """Send what waits, once, and end."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as crash:
            self.crash = crash

    def _turn(self) -> bool:
        with self._wake:
            while not (self._answers or self._reports or self._samples or self._ended):
                self._wake.wait()
            answers, self._answers = self._answers, deque(maxlen=256)
            reports, self._reports = self._reports, {}
            samples = [self._samples.popleft() for _ in range(min(BATCH, len(self._samples)))]
            ended = self._ended and not self._samples
        try:
            self._send_answers(answers)
            while samples:
                samples = self._send_samples(samples)
            for device in list(reports):
                self._send_report(device, *reports[device])
                del reports[device]
        except EsdkError as error:
            if not self._away:
                self._away = True
                self.log("warning", "gateway away", error=str(error))
            self._put_back(samples, reports)
            # A condition's wait would be cut short by the next poll, and turn into a busy loop.
            time.sleep(PAUSE_S)
        else:
            if self._away:
                self._away = False
                self.log("info", "gateway back", dropped=self.dropped)
        return not ended

    def _put_back(self, samples: list[Mapping[str, Any]], reports: dict[str, tuple[bool, Mapping[str, Any]]]) -> None:
        with self._wake:
            room = WAITING - len(self._samples)
            self.dropped += max(0, len(samples) - room)
            self._samples.extendleft(reversed(samples[max(0, len(samples) - room) :]))
            self._reports = {**reports, **self._reports}

    def _send_answers(self, answers: deque[tuple[float, str, bool, str]]) -> None:
        while answers:
            arrived_s, command_id, ok, message = answers.popleft()
            if time.monotonic() - arrived_s <= ANSWER_AGE_S:
                self._client.commands.answer(command_id, ok, message)

    def _send_samples(self, samples: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Send a batch; what is left of it when one sample was refused. Raises when trying again later will help."""
        try:
            self._client.points.send(samples)
        except EsdkError as error:
            if error.retry_after_s:
                raise
            index = error.fields.get("index")
            if not isinstance(index, int) or not 0 <= index < len(samples):
                self.dropped += len(samples)
                self.log("error", "samples refused", count=len(samples), error=str(error))
                return []
            # One point that does not fit must not cost the others their values.
            point = str(samples[index]["p"])
            if point not in self._refused:
                self._refused.add(point)
                self.log("error", "sample refused", point=point, error=str(error))
            return [sample for sample in samples if sample["p"] != point]
        return []

    def _send_report(self, device: str, online: bool, stats: Mapping[str, Any]) -> None:
        try:
            self._client.devices.report(device, online, stats)
        except EsdkError as error:
            if error.retry_after_s:
                raise
            self.log("warning", "report refused", device=device, error=str(error))
