"""`/v1/alarms`: the APP's own alarms."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Literal

import msgspec

from agent.domain.alarm import Alarm, Severity
from agent.errors import Busy, Malformed, NotFound, TimedOut
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.http.messages import Response, json_response

CODE = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
SETTLE_S = 10.0
MAX_STANDING = 100


class AlarmBody(msgspec.Struct, frozen=True):
    """An alarm. Times are epoch ms, 0: not yet. `count` is how often it was raised in this episode."""

    code: str
    severity: str
    message: str
    raised: int
    acknowledged: int
    count: int


class AlarmsBody(msgspec.Struct, frozen=True):
    """Those that stand now, worst first."""

    alarms: list[AlarmBody]


class RaiseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code` is the alarm's name within this APP: raising it again continues the episode."""

    code: str
    message: Annotated[str, msgspec.Meta(max_length=500)] = ""
    severity: Literal["critical", "major", "minor", "warning"] = "major"


class Cleared(msgspec.Struct, frozen=True):
    """The episode that ended."""

    code: str


class AlarmsCategory:
    """Needs `alarms: true`. A raise or clear is answered once it is on disk for the cloud."""

    def __init__(self, services: EsdkServices) -> None:
        self._book = services.alarms

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "GET", "/v1/alarms", "This APP's alarms that stand now", self.show,
                permission="alarms", answer=AlarmsBody,
            ),
            Endpoint(
                "POST", "/v1/alarms", "Raise an alarm", self.raise_,
                permission="alarms", body=RaiseBody, answer=AlarmBody, errors=(504,),
            ),
            Endpoint(
                "DELETE", "/v1/alarms/{code}", "Clear an alarm", self.clear,
                permission="alarms", answer=Cleared, errors=(404, 504),
            ),
        ]  # fmt: skip

    def show(self, call: Call) -> Response:
        """Answer from memory."""
        return json_response(AlarmsBody([_describe(each) for each in self._mine(call)]))

    async def raise_(self, call: Call) -> Response:
        """Begin or continue an episode."""
        body: RaiseBody = call.body
        _check_code(body.code)
        call.session.meter.events.take()
        standing = {each.code for each in self._mine(call)}
        if body.code not in standing and len(standing) >= MAX_STANDING:
            raise Busy("esdk.too_many_alarms", f"{len(standing)} alarms of this APP stand", hint="clear some first")
        alarm = self._book.raise_alarm(
            source_of(call.session.instance), body.code, Severity(body.severity), body.message or body.code
        )
        if alarm.count == 1:
            await self._settle()
        return json_response(_describe(alarm))

    async def clear(self, call: Call) -> Response:
        """End an episode."""
        code = call.params["code"]
        _check_code(code)
        call.session.meter.events.take()
        if self._book.clear_alarm(source_of(call.session.instance), code) is None:
            raise NotFound("esdk.no_alarm", f"no alarm '{code}' of this APP stands", hint="see GET /v1/alarms")
        await self._settle()
        return json_response(Cleared(code))

    def _mine(self, call: Call) -> list[Alarm]:
        source = source_of(call.session.instance)
        return [each for each in self._book.active() if each.source == source]

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._book.settled()
        except TimeoutError:
            raise TimedOut(
                "esdk.alarm_not_stored", "the alarm stands, but is not on disk yet", hint="is the disk full?"
            ) from None


def source_of(instance: str) -> str:
    """The alarm source of an APP."""
    return f"app:{instance}"


def _check_code(code: str) -> None:
    if not CODE.match(code):
        raise Malformed(
            "esdk.bad_code", f"'{code[:80]}' is not an alarm's code", hint="1 to 64 of A-Z a-z 0-9 _ . -", field="code"
        )


def _describe(alarm: Alarm) -> AlarmBody:
    return AlarmBody(
        alarm.code, alarm.severity.value, alarm.message, alarm.raised_ms, alarm.acknowledged_ms, alarm.count
    )
