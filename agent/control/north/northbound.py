"""The cloud's side of the control room: its messages go to the inbox, replies and jobs to the outbox.

A command is acknowledged to the broker only when what it caused is on disk: the decision and the reply to it. What is
declared stands at the broker, retained, and comes again with each connection: it is acknowledged once it was heard.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

import msgspec

from agent.control.inbox import Inbox
from agent.control.ledger import Ledger
from agent.control.north.told import UNBEARABLE, job_body, reply_body
from agent.control.north.wishes import Wishes
from agent.domain.command import Command, Job, Reply
from agent.domain.journal import Change
from agent.domain.priority import Priority
from agent.errors import GatewayError, TooLarge
from agent.ports import CloudLink, DesiredBundle, DesiredIndex, Dialect, Incoming, OutRecord

log = logging.getLogger("agent.control.north.northbound")


RETRY_FIRST_S = 1.0
RETRY_LAST_S = 60.0
AT_ONCE = 32
"""Messages under way; beyond them the link stops reading, so that a flood stays at the broker."""


class Sender(Protocol):
    """Where what must not be lost goes."""

    async def add(self, record: OutRecord) -> None: ...


class Northbound:
    """Two loops: messages in, job states out."""

    def __init__(
        self, link: CloudLink, dialect: Dialect, inbox: Inbox, wishes: Wishes, ledger: Ledger, outbox: Sender
    ) -> None:
        self._link = link
        self._dialect = dialect
        self._inbox = inbox
        self._wishes = wishes
        self._ledger = ledger
        self._outbox = outbox
        self._news = asyncio.Event()
        self._added: Job | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self.malformed = 0
        ledger.listen(self._on_change)

    async def receive(self) -> None:
        """Take the cloud's messages, for ever."""
        async for message in self._link.messages():
            await self._room.acquire()
            task = asyncio.create_task(self._take(message), name="cloud-message")
            self._open.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._room.release()

    async def tell_jobs(self) -> None:
        """Put every job's state into the outbox, those of the last run first.

        One that is refused (the outbox or the disk is full) is tried again, and the others wait behind it.
        """
        pause_s = RETRY_FIRST_S
        while True:
            self._news.clear()
            job_id = next(iter(self._ledger.untold), None)
            if job_id is None:
                await self._news.wait()
                continue
            try:
                await self._tell(self._ledger.jobs.get(job_id), job_id)
            except GatewayError as error:
                if pause_s == RETRY_FIRST_S:
                    log.warning("job_not_told id=%s code=%s reason=%s", job_id, error.code, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_LAST_S)
            else:
                pause_s = RETRY_FIRST_S

    async def _tell(self, job: Job | None, job_id: str) -> None:
        if job is None:
            self._ledger.untold.pop(job_id, None)
            return
        if job is not self._added:
            await self._add("job", job_body(job))
            self._added = job  # should its mark be refused, it is not added a second time
        await self._ledger.mark_told(job)

    def _on_change(self, change: Change) -> None:
        if change.jobs:
            self._news.set()

    async def _take(self, message: Incoming) -> None:
        try:
            reply = await self._carry_out(message)
            if reply is not None:
                await self._answer(reply)
        except Exception:
            # A defect of ours would meet the same message again and again: it is logged, and the message dropped.
            self.malformed += 1
            log.exception("cloud_message_failed topic=%s", message.topic)
        message.ack()

    async def _carry_out(self, message: Incoming) -> Reply | None:
        """The reply to a command, also to one that cannot be read. Wishes stand at the broker, and have none."""
        try:
            decoded = self._dialect.decode(message)
        except GatewayError as error:
            self.malformed += 1
            log.warning("cloud_message_malformed topic=%s code=%s reason=%s", message.topic, error.code, error)
            command_id = error.fields.get("id")
            return self._inbox.refusal(str(command_id), error) if command_id else None
        if isinstance(decoded, Command):
            return await self._inbox.submit(decoded, expiry_left_s=message.expiry_left_s)
        try:
            if isinstance(decoded, DesiredIndex):
                await self._wishes.take_index(decoded)
            elif isinstance(decoded, DesiredBundle):
                await self._wishes.take_bundle(decoded)
            else:
                await self._wishes.take_release(decoded)
        except GatewayError as error:
            # They try again by themselves, and a retained document comes anew with each connection.
            log.warning("desired_postponed topic=%s code=%s reason=%s", message.topic, error.code, error)
        return None

    async def _answer(self, reply: Reply) -> None:
        """Bring a reply to the outbox, at last also when that or the disk is full.

        Its message is the broker's until then. Given up, it would hold one of the few places there until the next connect.
        """
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self._add_reply(reply)
                return
            except TooLarge as error:
                log.warning("reply_too_large id=%s reason=%s", reply.id, error)
                reply = self._inbox.refusal(reply.id, UNBEARABLE)
                continue
            except GatewayError as error:
                if pause_s == RETRY_FIRST_S:
                    log.warning("reply_not_told id=%s code=%s reason=%s", reply.id, error.code, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_LAST_S)

    async def _add_reply(self, reply: Reply) -> None:
        await self._add("reply", reply_body(reply))

    async def _add(self, kind: str, body: dict[str, Any]) -> None:
        await self._outbox.add(OutRecord(Priority.CRITICAL, kind, msgspec.json.encode(body)))
