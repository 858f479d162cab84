"""`/v1/log`: structured lines into the APP's own log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from agent.errors import TooLarge
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.http.messages import Response, json_response

MAX_LINE_BYTES = 8_192
MAX_LINES = 1_000


class LogLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`t` is epoch ms, the gateway's own time where it is left out. `fields` are anything."""

    message: Annotated[str, msgspec.Meta(max_length=4_096)]
    level: Literal["debug", "info", "warning", "error"] = "info"
    service: Annotated[str, msgspec.Meta(max_length=64)] = ""
    t: int | None = None
    fields: dict[str, Any] = {}


class Logged(msgspec.Struct, frozen=True):
    """How many lines were taken."""

    lines: int


LogBody = LogLine | Annotated[list[LogLine], msgspec.Meta(max_length=MAX_LINES)]


class LogCategory:
    """Always allowed. The file is bounded; see `applog`."""

    def __init__(self, services: EsdkServices) -> None:
        self._logs = services.logs
        self._clock = services.clock

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "POST", "/v1/log", "Write one line, or a list of lines", self.write,
                body=LogBody, answer=Logged, max_body=262_144,
            )
        ]  # fmt: skip

    def write(self, call: Call) -> Response:
        """Hand the lines to the writer."""
        lines: list[LogLine] = [call.body] if isinstance(call.body, LogLine) else call.body
        call.session.meter.log_lines.take(len(lines))
        now_ms = self._clock.now_ms()
        encoded = [_encode(line, now_ms) for line in lines]
        longest = max(map(len, encoded), default=0)
        if longest > MAX_LINE_BYTES:
            raise TooLarge(
                "esdk.log_line", f"a line has {longest} bytes, over {MAX_LINE_BYTES}", hint="log less in one line"
            )
        self._logs.write(call.session.instance, encoded)
        return json_response(Logged(len(lines)))


def _encode(line: LogLine, now_ms: int) -> bytes:
    body: dict[str, Any] = {"t": now_ms if line.t is None else line.t, "level": line.level, "message": line.message}
    if line.service:
        body["service"] = line.service
    if line.fields:
        body["fields"] = line.fields
    return msgspec.json.encode(body)
