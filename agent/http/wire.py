"""Responses as bytes."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from agent.http.messages import Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@lru_cache(maxsize=128)
def _start(status: int, content_type: str, keep_alive: bool) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    connection = "" if keep_alive else "Connection: close\r\n"
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status} {phrase}\r\n{kind}{connection}Content-Length: ".encode("latin-1")


def encode_head(response: Response, keep_alive: bool) -> bytes:
    """Everything before the body. Extra headers are the gateway's own words, never a client's."""
    head = _start(response.status, response.content_type, keep_alive) + b"%d\r\n" % len(response.body)
    for name, value in response.headers:
        head += f"{name}: {value}\r\n".encode("latin-1")
    return head + b"\r\n"
