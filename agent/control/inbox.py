"""Where every command ends up, wherever it came from: checked, done or journaled, and answered once.

The same id gets the same reply and has no second effect. A change is on disk, with its reply, before the reply is
given; the cloud's message is acknowledged to the broker only after that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from agent.control.ledger import Ledger
from agent.domain.command import Command, Origin, Reply
from agent.domain.document import did_you_mean
from agent.domain.journal import Change
from agent.domain.params import LOCAL_ONLY, PARAMS, Params
from agent.errors import GatewayError, Malformed, NotFound, Refused, TooLate
from agent.ports import Clock

log = logging.getLogger("agent.control.inbox")

Read = Callable[[Any], Awaitable[Any]]
"""Answers with data and changes nothing."""
Act = Callable[[Command, Any], Awaitable[Any]]
"""Does something outside the desired state (a write, an acknowledgement) and answers with data."""
Prepare = Callable[[Any], Awaitable[None]]
"""Finds out what a decision needs to know from outside."""
Decide = Callable[[Command, Any], tuple[Change, Reply]]
"""Computes a change of the desired state and its reply; must not await."""

ONLY_AT_ONCE = frozenset({"point.write", "gateway.reboot"})
AT_ONCE_S = 10.0
"""A write that waited longer, at the broker while the gateway was away, is never replayed; nor with a wrong clock."""
Remedy = Callable[[Any, Refused], Awaitable[bool]]
"""Mends what a decision was refused for; true when it is worth deciding again."""
LIMIT_OPEN = 256
_SCALARS = frozenset({"bool", "int", "float", "str"})
_NOT_SCALAR = frozenset({"bool_type", "int_type", "float_type", "string_type"})


class Inbox:
    """Commands in, replies out. The three tables say what each type does."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._reads: dict[str, Read] = {}
        self._acts: dict[str, Act] = {}
        self._decisions: dict[str, Decide] = {}
        self._prepares: dict[str, Prepare] = {}
        self._remedies: dict[str, Remedy] = {}
        self._open: dict[str, asyncio.Task[Reply]] = {}

    def offer(
        self,
        *,
        reads: Mapping[str, Read] | None = None,
        acts: Mapping[str, Act] | None = None,
        decisions: Mapping[str, Decide] | None = None,
        prepares: Mapping[str, Prepare] | None = None,
        remedies: Mapping[str, Remedy] | None = None,
    ) -> None:
        """Take command types into the tables, and remedies by the code of a refusal, before the first command comes."""
        self._reads.update(reads or {})
        self._acts.update(acts or {})
        self._decisions.update(decisions or {})
        self._prepares.update(prepares or {})
        self._remedies.update(remedies or {})

    @property
    def types(self) -> frozenset[str]:
        """The command types this gateway offers."""
        return frozenset({*self._reads, *self._acts, *self._decisions})

    async def submit(self, command: Command, *, expiry_left_s: int | None = None) -> Reply:
        """Answer a command. Never raises: what went wrong is the reply's code, msg and data."""
        running = self._open.get(command.id)
        if running is None:
            if len(self._open) >= LIMIT_OPEN:
                return Reply(command.id, 429, f"{LIMIT_OPEN} commands are under way; send it again later")
            running = asyncio.create_task(self._answer(command, expiry_left_s), name=f"command-{command.id}")
            self._open[command.id] = running
            running.add_done_callback(lambda _: self._open.pop(command.id, None))
        return await asyncio.shield(running)

    async def _answer(self, command: Command, expiry_left_s: int | None) -> Reply:
        journaled = command.origin is not Origin.LOCAL or command.type not in self._reads
        try:
            if journaled:
                known = await self._ledger.journal.reply_to(command.id)
                if known is not None:
                    return known
            params = self._check(command, expiry_left_s)
            reply = await self._carry_out(command, params, journaled=journaled)
        except GatewayError as error:
            reply = self.refusal(command.id, error)
            if journaled and not error.retryable:
                await self._journal_refusal(command, reply)
        except Exception:
            log.exception("command_failed id=%s type=%s", command.id, command.type)
            return Reply(command.id, 500, "the agent failed inside; see its log", ts_ms=self._clock.now_ms())
        level = logging.INFO if journaled else logging.DEBUG
        log.log(level, "command id=%s type=%s origin=%s code=%d", command.id, command.type, command.origin, reply.code)
        return reply

    async def _carry_out(self, command: Command, params: Params, *, journaled: bool) -> Reply:
        now_ms = self._clock.now_ms()
        if command.type in self._decisions:
            return await self._prepare_and_decide(command, params)
        if command.type in self._prepares:
            await self._prepares[command.type](params)
        if command.type in self._reads:
            reply = Reply(command.id, 200, data=await self._reads[command.type](params), ts_ms=now_ms)
            if journaled:
                await self._ledger.decide(Change, answered=(command, reply))
            return reply
        # An effect outside the store cannot be undone: the id is spent first, so a kill cannot make it happen twice.
        unknown = Reply(command.id, 500, "interrupted: the agent stopped while it was carried out", ts_ms=now_ms)
        await self._ledger.decide(Change, answered=(command, unknown))
        try:
            data = await self._acts[command.type](command, params)
        except GatewayError as error:
            reply = self.refusal(command.id, error)
        else:
            reply = data if isinstance(data, Reply) else Reply(command.id, 200, data=data, ts_ms=now_ms)
        await self._ledger.decide(Change, answered=(command, reply))
        return reply

    async def _prepare_and_decide(self, command: Command, params: Params) -> Reply:
        """Once more, with what is known then, where a remedy mended what it was refused for."""
        prepare = self._prepares.get(command.type)
        if prepare is not None:
            await prepare(params)
        try:
            return await self._decide(command, params)
        except Refused as error:
            remedy = self._remedies.get(error.code)
            # With something else wrong too it would be in vain.
            if (
                prepare is None
                or remedy is None
                or len(error.fields.get("problems", ())) > 1
                or not await remedy(params, error)
            ):
                raise
        await prepare(params)
        return await self._decide(command, params)

    async def _decide(self, command: Command, params: Params) -> Reply:
        def decision() -> Change:
            change, reply = self._decisions[command.type](command, params)
            return replace(change, command=command, reply=replace(reply, ts_ms=self._clock.now_ms()))

        change = await self._ledger.decide(decision)
        assert change.reply is not None
        return change.reply

    def _check(self, command: Command, expiry_left_s: int | None) -> Params:
        model = PARAMS.get(command.type)
        if model is None or command.type not in self.types:
            hint = did_you_mean(command.type, self.types)
            raise NotFound("command.unknown", f"there is no command '{command.type}'", hint=hint)
        if command.type in LOCAL_ONLY and command.origin is not Origin.LOCAL:
            raise Refused("command.local_only", f"{command.type} names a path of the gateway's disk", hint="use ecgw")
        self._check_time(command, expiry_left_s)
        try:
            return model.model_validate(dict(command.params))
        except ValidationError as error:
            mistakes = _mistakes(error)
            where, what = mistakes[0]
            first = error.errors()[0]
            raise Malformed(
                "command.params",
                f"{command.type}: params.{where}: {what}",
                # Names help who gave a wrong one; what a value must be, `what` says already.
                hint=_allowed(model, first["loc"][:-1]) if first["type"] in ("extra_forbidden", "missing") else "",
                field=f"params.{where}",
                mistakes=[{"field": f"params.{w}", "message": m} for w, m in mistakes],
            ) from None

    def _check_time(self, command: Command, expiry_left_s: int | None) -> None:
        """The broker's own count of waiting time wins; without it the wall clock, and only while that is sane."""
        if command.origin is not Origin.CLOUD:
            return
        if not self._clock.sane() and command.type in ONLY_AT_ONCE:
            raise TooLate("command.clock", f"{command.type} is refused while the gateway's clock is wrong")
        age_s = (self._clock.now_ms() - command.ts_ms) / 1000 if command.ts_ms and self._clock.sane() else 0.0
        waited_s = age_s if expiry_left_s is None else command.ttl_s - expiry_left_s
        if command.type in ONLY_AT_ONCE and waited_s > AT_ONCE_S:
            raise TooLate(
                "command.waited",
                f"{command.type} waited {waited_s:.0f} s and is not carried out after more than {AT_ONCE_S:g} s",
                hint="send it again while the gateway is online",
            )
        if (expiry_left_s is not None and expiry_left_s > 0) or not self._clock.sane():
            return
        late_ms = self._clock.now_ms() - (command.ts_ms + int(command.ttl_s * 1000))
        if command.ts_ms and late_ms > 0:
            raise TooLate("command.late", f"the time to live passed {late_ms / 1000:.0f} s ago", hint="send it again")

    def refusal(self, command_id: str, error: GatewayError) -> Reply:
        """The reply that says why not, with the time; also to what could not be read as a command."""
        return Reply(command_id, error.status, str(error), data=error.problem(), ts_ms=self._clock.now_ms())

    async def _journal_refusal(self, command: Command, reply: Reply) -> None:
        try:
            await self._ledger.decide(Change, answered=(command, reply))
        except GatewayError as error:
            log.warning("refusal_not_journaled id=%s reason=%s", command.id, error)


def _allowed(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """The names allowed at `place` within a command's parameters: of the level where one is wrong or missing."""
    level: Any = model
    for step in place:
        known = getattr(level, "model_fields", {})
        level = known[step].annotation if step in known else (get_args(level) or (None,))[-1]
    names = getattr(level, "model_fields", None)
    return "" if names is None else f"allowed: {', '.join(names) or 'no parameters'}"


def _mistakes(error: ValidationError) -> list[tuple[str, str]]:
    """Where and what, one row a place: of a value that fits none of several types, pydantic tells each type's mistake."""
    found: dict[str, str] = {}
    for each in error.errors():
        place = [str(step) for step in each["loc"]]
        words = "Input should be a mapping" if each["type"] == "model_type" else each["msg"]
        if len(place) > 1 and place[-1] in _SCALARS and each["type"] in _NOT_SCALAR:
            place, words = place[:-1], "Input should be true or false, a number or text"
        found.setdefault(".".join(place) or "params", words)
    return list(found.items())
