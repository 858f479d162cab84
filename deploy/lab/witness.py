"""An independent witness of what crosses the broker: mosquitto_sub, a program that we did not write."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.lab.process import Child, LabError, wait_until

# Receive time, retained, QoS, payload in hexadecimal (batches are binary), topic last since it may hold spaces.
_FORMAT = "ec-message %U %r %q %x %t"
_PREFIX = "ec-message "
_SUBSCRIBED = "Subscribed (mid:"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the witness received it; `at` is its clock, in seconds since the epoch."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    at: float

    def json(self) -> Any:
        """The payload, which must be JSON."""
        return json.loads(self.payload)


class Witness:
    """A running mosquitto_sub. Its output goes to a file that is read whenever somebody asks, so nothing is dropped."""

    def __init__(self, connect: Sequence[str], topics: Sequence[str], log: Path) -> None:
        # stdbuf: to a file, mosquitto_sub would write only when its buffer is full. -d: tells of the subscription.
        argv = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-q", "1", "-F", _FORMAT, *connect]
        for topic in topics:
            argv += ["-t", topic]
        self._log = log
        self._offset = 0
        self._messages: list[Message] = []
        self._subscribed = False
        self._child = Child("mosquitto_sub", argv, log)
        try:
            wait_until(self._is_subscribed, "the witness is subscribed", 10, child=self._child)
        except LabError:
            self._child.end()
            raise

    @property
    def process(self) -> Child:
        """The mosquitto_sub."""
        return self._child

    def messages(self, topic: str | None = None) -> list[Message]:
        """Everything received so far, or what came on exactly one topic."""
        self._read()
        return [message for message in self._messages if topic is None or message.topic == topic]

    def wait_for(self, fits: Callable[[Message], bool], what: str, within_s: float = 10.0) -> Message:
        """The first message that fits, among those received already or still to come."""
        found: list[Message] = []
        seen = 0

        def look() -> bool:
            nonlocal seen
            self._read()
            found.extend(message for message in self._messages[seen:] if fits(message))
            seen = len(self._messages)
            return bool(found)

        wait_until(look, f"the witness saw {what}", within_s, child=self._child)
        return found[0]

    def end(self) -> None:
        """Stop watching; what was received can still be read."""
        self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _is_subscribed(self) -> bool:
        self._read()
        return self._subscribed

    def _read(self) -> None:
        with self._log.open("rb") as text:
            text.seek(self._offset)
            for raw in text:
                if not raw.endswith(b"\n"):
                    break
                self._offset += len(raw)
                line = raw.decode().rstrip("\n")
                if line.startswith(_PREFIX):
                    self._messages.append(_message(line))
                elif line.startswith(_SUBSCRIBED):
                    self._subscribed = True


def _message(line: str) -> Message:
    at, retained, qos, payload, topic = line.removeprefix(_PREFIX).split(" ", 4)
    return Message(topic, bytes.fromhex(payload), int(qos), retained == "1", float(at))
