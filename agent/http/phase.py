"""The states of a connection."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """What the connection waits for; each has its own deadline."""

    VERIFYING = "verifying"
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    HANDLING = "handling"
    STREAMING = "streaming"
    CLOSING = "closing"


SLOW = {Phase.HEAD: "the head of the request", Phase.BODY: "the body of the request"}
