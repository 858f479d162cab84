"""RFC 9457 problem documents: the only shape an error has on a socket."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec

from agent.errors import GatewayError
from agent.http.messages import PROBLEM, Response


class SlowClientError(GatewayError):
    """The client did not finish its request in time."""

    status: ClassVar[int] = 408


class HeadTooLargeError(GatewayError):
    """The request line and headers are larger than the stated bound."""

    status: ClassVar[int] = 431


class MethodNotAllowedError(GatewayError):
    """The path is there, the method is not. Field `allowed` lists what is."""

    status: ClassVar[int] = 405


class InternalError(GatewayError):
    """A mistake of the gateway's own; its log has the traceback."""


def problem_response(error: GatewayError) -> Response:
    """The error as a response; `retry_after_s` and `allowed` among its fields also become headers."""
    body = {"type": f"urn:ec:error:{error.code}", **error.problem()}
    headers: list[tuple[str, str]] = []
    retry_after_s = error.fields.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        headers.append(("Retry-After", str(max(1, math.ceil(retry_after_s)))))
    elif error.status == 429:
        headers.append(("Retry-After", "1"))
    allowed = error.fields.get("allowed")
    if isinstance(allowed, list):
        headers.append(("Allow", ", ".join(allowed)))
    return Response(error.status, msgspec.json.encode(body, enc_hook=str), PROBLEM, tuple(headers))


def internal_error() -> InternalError:
    """What a client learns of an exception nobody expected."""
    return InternalError("internal.error", "the gateway made a mistake", hint="see the gateway's log")
