"""`/v1/commands`: what the gateway asks of this APP, and its answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import msgspec

from agent.domain.sample import Scalar
from agent.esdk.devices import Safe
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.http.messages import Response, Sink, Stream, json_response

BEAT_S = 1.0
"""Drivers tell a silent agent by it, to apply safe values."""


class CommandEvent(msgspec.Struct, frozen=True):
    """A write of a point this APP owns. `t` is epoch ms; `address` and `safe` are as in the device's file."""

    id: str
    type: Literal["write"]
    point: str
    value: Scalar
    t: int
    origin: str
    who: str
    device: str
    address: dict[str, Scalar]
    safe: Safe | None = None


class EndEvent(msgspec.Struct, frozen=True):
    """The stream ends: another listener of this APP took over."""

    reason: str


class CommandAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ok` false: it was not done, and `message` says why."""

    ok: bool = True
    message: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Answered(msgspec.Struct, frozen=True):
    """The command this answered."""

    id: str


class CommandsCategory:
    """Always allowed: an APP hears what is meant for itself."""

    def __init__(self, services: EsdkServices) -> None:
        self._writes = services.writes

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "GET", "/v1/commands/stream", "Writes meant for this APP; one listener, the last one of its proven version", self.watch,
                events={"command": CommandEvent, "end": EndEvent},
            ),
            Endpoint(
                "POST", "/v1/commands/{id}", "Answer a command", self.answer,
                body=CommandAnswer, answer=Answered, errors=(404,),
            ),
        ]  # fmt: skip

    def watch(self, call: Call) -> Stream:
        """Each command is on the wire in the turn of the loop that caused it; a slow listener is cut."""
        commands = self._writes.attach(call.session.instance, call.caller)
        ended = asyncio.Event()

        async def feed(sink: Sink) -> None:
            def push() -> None:
                for command in commands.drain():
                    sink.send("command", msgspec.json.encode(command.as_dict()), command.id)
                if commands.ended:
                    ended.set()

            commands.on_ready = push
            push()
            await ended.wait()
            sink.send("end", msgspec.json.encode(EndEvent("another listener of this APP took over")))

        return Stream(feed, lambda: self._writes.detach(commands), BEAT_S)

    def answer(self, call: Call) -> Response:
        """404 for a command that does not wait for this APP's answer."""
        body: CommandAnswer = call.body
        command_id = call.params["id"]
        self._writes.answer(call.session.instance, command_id, body.ok, body.message)
        return json_response(Answered(command_id))
