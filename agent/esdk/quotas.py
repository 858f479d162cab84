"""What one instance may ask for in a second, so that a flooding APP is a problem of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import Busy


@dataclass(frozen=True, slots=True)
class Quota:
    """Rates of one instance. A bucket holds two seconds' worth."""

    requests_per_s: float = 3_000.0
    samples_per_s: float = 50_000.0
    events_per_s: float = 20.0
    log_lines_per_s: float = 200.0
    streams: int = 16


class Bucket:
    """A token bucket. It may be overdrawn by one request, so a batch larger than the bucket still gets through."""

    __slots__ = ("_burst", "_level", "_now", "_rate", "_seen_s", "name")

    def __init__(self, name: str, rate_per_s: float, now: Callable[[], float]) -> None:
        self.name = name
        self._rate = rate_per_s
        self._burst = rate_per_s * 2.0
        self._level = self._burst
        self._now = now
        self._seen_s = now()

    def take(self, count: int = 1) -> None:
        """Take `count`. Raises Busy with `retry_after_s` while the bucket is empty; then nothing is taken."""
        now_s = self._now()
        level = min(self._burst, self._level + (now_s - self._seen_s) * self._rate)
        self._seen_s = now_s
        if level <= 0.0:
            self._level = level
            raise Busy(
                "esdk.quota",
                f"more than {self._rate:g} {self.name} a second",
                hint="wait as long as Retry-After says; send batches",
                quota=self.name,
                retry_after_s=round(min(3600.0, (1.0 - level) / self._rate), 3),
            )
        self._level = level - count


class Meter:
    """All quotas of one instance, and how much was used of them."""

    def __init__(self, quota: Quota, now: Callable[[], float]) -> None:
        self.quota = quota
        self.requests = Bucket("requests", quota.requests_per_s, now)
        self.samples = Bucket("samples", quota.samples_per_s, now)
        self.events = Bucket("events", quota.events_per_s, now)
        self.log_lines = Bucket("log lines", quota.log_lines_per_s, now)
        self.streams = 0
        self.used = {"requests": 0, "samples": 0, "refused": 0}

    def open_stream(self) -> None:
        """Count a stream. Raises Busy when too many are open."""
        if self.streams >= self.quota.streams:
            raise Busy(
                "esdk.quota",
                f"{self.quota.streams} streams are open",
                hint="close one, or watch several things in one stream",
                quota="streams",
                retry_after_s=5,
            )
        self.streams += 1

    def close_stream(self) -> None:
        """The stream is gone."""
        self.streams -= 1
