"""The bounds of one socket: nothing a client does may cost more than this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Per socket unless said otherwise. `body_bytes` is the default of a route; a route may ask for its own."""

    head_bytes: int = 16_384
    headers: int = 64
    body_bytes: int = 1_048_576
    bodies_bytes: int = 4_194_304
    """Bodies being received or waiting for their turn, over all connections."""
    connections: int = 64
    in_flight: int = 128
    """Requests whose handler is waiting for something."""
    pipeline: int = 32
    """Requests of one connection that wait for the one before."""
    stream_bytes: int = 65_536
    """Unsent bytes of one event stream before its reader is cut."""
    verify_s: float = 5.0
    idle_s: float = 75.0
    head_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 20.0
    beat_s: float = 15.0
    linger_s: float = 1.0
    linger_bytes: int = 4_194_304
    """What is read and thrown away after a refusal, so that the client gets to read the answer."""
