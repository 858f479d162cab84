"""The agent's log: one line an event, name and key=value, on standard error and in a bounded memory for `ecgw`."""

from __future__ import annotations

import logging
import sys
from collections import deque

KEEP_LINES = 2000
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Recent(logging.Handler):
    """The last lines, oldest first."""

    def __init__(self, keep: int = KEEP_LINES) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT))
        self._lines: deque[str] = deque(maxlen=keep)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(self.format(record))

    def tail(self, count: int) -> list[str]:
        """The last `count` lines."""
        return list(self._lines)[-count:]


def start_logging(level: str) -> Recent:
    """Log the agent's own events at `level` and everybody else's warnings; returns the memory of recent lines."""
    recent = Recent()
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[stderr, recent], force=True)
    logging.getLogger("agent").setLevel(level.upper())
    # It warns with whole URLs in its words, and their queries may be signatures; what fails is said by who asked.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return recent
