"""What a link to a broker needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authority that signed the broker, and this client's certificate and key.

    They are read at every connect, so a renewed certificate needs no restart.
    """

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One broker, one client. `client_id` names the session that the broker keeps for `session_expiry_s`.

    `receive_maximum` bounds how many messages wait here un-acknowledged; `max_packet_bytes` what one may weigh.
    """

    host: str
    port: int
    client_id: str
    tls: Tls | None = None
    keepalive_s: int = 30
    session_expiry_s: int = 7 * 86_400
    receive_maximum: int = 32
    max_packet_bytes: int = 1_048_576
    connect_timeout_s: float = 10.0
    publish_timeout_s: float = 10.0
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0
