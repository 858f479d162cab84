"""Every error that leaves a room: one tree, and the numbers people and clouds see.

An error says what happened (`message`), where (`fields`) and what to do next (`hint`). `code` is stable and
dotted, ``area.what``: tests and cloud programs may rely on it. The class decides the northbound reply code, the
HTTP status and the exit code of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class GatewayError(Exception):
    """Base of all errors the gateway reports. Raise one of the subclasses."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def problem(self) -> dict[str, Any]:
        """The error as an RFC 9457 problem document (also the `data` of a refused command's reply)."""
        body: dict[str, Any] = {"title": self.message, "status": self.status, "code": self.code}
        if self.hint:
            body["hint"] = self.hint
        return {**body, **self.fields}


class Malformed(GatewayError):
    """The input cannot be what was meant: wrong type, unknown key, not JSON."""

    status = 400
    exit_code = 2


class Unauthorised(GatewayError):
    """The caller is not who the socket or certificate says."""

    status = 401
    exit_code = 4


class Refused(GatewayError):
    """Understood, and refused by policy or by the APP's grants."""

    status = 403
    exit_code = 4


class NotFound(GatewayError):
    """There is nothing of that name."""

    status = 404


class TooLate(GatewayError):
    """The time to live of the command has passed."""

    status = 408


class Conflict(GatewayError):
    """Somebody else owns it, or its state does not allow it now."""

    status = 409


class TooLarge(GatewayError):
    """Larger than the stated bound."""

    status = 413


class Busy(GatewayError):
    """A bounded queue or quota is full."""

    status = 429
    retryable = True


class Failed(GatewayError):
    """The operation was tried and failed."""

    status = 500


class Unreachable(GatewayError):
    """The agent, the engine, the broker or the registry does not answer."""

    status = 503
    exit_code = 3
    retryable = True


class TimedOut(GatewayError):
    """No answer within the stated deadline."""

    status = 504
    retryable = True


class NoSpace(GatewayError):
    """The disk is full, or would be."""

    status = 507
    retryable = True


class NoSpaceThere(NoSpace):
    """As `NoSpace`, at a place that a person named and that the gateway does not keep free: to wait makes no room."""

    retryable = False


BY_STATUS: Mapping[int, type[GatewayError]] = {kind.status: kind for kind in GatewayError.__subclasses__()}


def from_problem(status: int, problem: Mapping[str, Any]) -> GatewayError:
    """The error that a problem document stands for, on the other side of a socket; its further fields go along."""
    kind = BY_STATUS.get(status) or (Malformed if status < 500 else Failed)
    code = str(problem.get("code") or f"agent.status_{status}")
    message = str(problem.get("title") or f"the agent answered {status}")
    known = ("code", "title", "message", "hint", "status")
    fields = {key: value for key, value in problem.items() if key not in known}
    return kind(code, message, hint=str(problem.get("hint") or ""), **fields)
