"""Samples gathered and sent together by a thread, so that a measuring loop never waits for the gateway."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from ecsdk.errors import EsdkError
from ecsdk.records import Sample, Scalar

RETRY_S = 1.0


class Batch:
    """`add` never waits and never raises: when the gateway is away, the newest `waiting` samples are kept.

    `dropped` counts those that were not; `refused` is the last refusal (a batch that is refused is not sent again).
    """

    def __init__(self, send: Callable[[Sequence[Sample]], int], *, every_s: float, size: int, waiting: int) -> None:
        self.dropped = 0
        self.refused: EsdkError | None = None
        self._send = send
        self._every_s = every_s
        self._size = size
        self._waiting: deque[Sample] = deque(maxlen=waiting)
        self._due = threading.Event()
        self._ended = threading.Event()
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ecsdk batch", daemon=True)
        self._thread.start()

    def add(self, p: str, v: Scalar, t: int | None = None, q: str = "good") -> None:
        """Take one sample."""
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(Sample(p, v, t, q))
        if len(self._waiting) >= self._size:
            self._due.set()

    def flush(self) -> bool:
        """Send what waits now; False when the gateway did not take it."""
        with self._sending:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
                try:
                    self._send(group)
                except EsdkError as error:
                    if error.retry_after_s:
                        self._put_back(group)
                        return False
                    self.refused = error
                    self.dropped += len(group)
        return True

    def close(self) -> None:
        """Send what waits, once, and end."""
        self._ended.set()
        self._due.set()
        self._thread.join()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put_back(self, group: list[Sample]) -> None:
        room = (self._waiting.maxlen or 0) - len(self._waiting)
        self.dropped += max(0, len(group) - room)
        self._waiting.extendleft(reversed(group[len(group) - min(room, len(group)) :]))

    def _run(self) -> None:
        while not self._ended.is_set():
            self._due.wait(self._every_s)
            self._due.clear()
            if not self.flush():
                self._ended.wait(RETRY_S)
