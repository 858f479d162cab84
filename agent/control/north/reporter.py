"""Tells the cloud what is so: presence, the gateway's index and one document per instance, latest only.

These do not queue: while the link is down they are only marked as changed, and sent after the next connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent.errors import GatewayError
from agent.ports import CloudLink, Dialect, Outgoing

log = logging.getLogger("agent.control.north.reporter")

GATHER_S = 0.3
REFRESH_S = 60.0

Describe = Callable[[], Mapping[str, Any]]
DescribeApp = Callable[[str], Mapping[str, Any] | None]
"""The document of an instance, or None when it is gone."""


class Reporter:
    """`describe` makes the index, `describe_app` one instance's document."""

    def __init__(
        self, link: CloudLink, dialect: Dialect, session: str, describe: Describe, describe_app: DescribeApp
    ) -> None:
        self._link = link
        self._dialect = dialect
        self._session = session
        self._describe = describe
        self._describe_app = describe_app
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._sent: dict[str, bytes] = {}

    def mark(self, instance: str) -> None:
        """Something about the instance may have changed."""
        self._changed.add(instance)
        self._wake.set()

    async def follow_link(self) -> None:
        """At every connect say that the gateway is here, and everything that is so."""
        async for connected in self._link.changes():
            if not connected:
                continue
            self._changed |= set(self._sent)
            self._sent.clear()
            await self._send(self._dialect.presence(True, self._session))
            self._wake.set()

    async def run(self) -> None:
        """Send what changed, gathered over a moment, and everything's index once a minute."""
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: woken and cancelled in one turn of the loop, it forgets that it was cancelled.
                async with asyncio.timeout(REFRESH_S):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            if self._link.connected:
                changed, self._changed = self._changed, set()
                for instance in sorted(changed):
                    await self._report(instance)
                await self._report("")

    async def _report(self, instance: str) -> None:
        """Send one document if it differs from what was sent last; "" is the gateway's index."""
        body = self._describe() if not instance else self._describe_app(instance)
        encoded = msgspec.json.encode(body or {})
        if self._sent.get(instance) == encoded:
            return
        if await self._send(self._dialect.reported(body or {}, instance or None)):
            self._sent[instance] = encoded
        else:
            self._changed.add(instance)

    async def _send(self, message: Outgoing) -> bool:
        try:
            await self._link.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
        except GatewayError as error:
            log.info("report_postponed topic=%s reason=%s", message.topic, error)
            return False
        return True
