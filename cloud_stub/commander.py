"""From REST to the gateways: commands that expire at the broker, and desired state that waits there retained."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from agent.errors import Malformed, TooLarge, Unreachable
from cloud_stub.reads import Reads
from cloud_stub.receiver import Writer
from cloud_stub.store import Store

log = logging.getLogger(__name__)

PAYLOAD_MAX_BYTES = 262_144


class BrokerLink(Protocol):
    """What is needed of the link: publishing with a time to live at the broker, and word of each connect."""

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> None: ...
    def changes(self) -> AsyncIterator[bool]: ...
    def status(self) -> Mapping[str, Any]: ...


class Commander:
    """Sends. Raises Unreachable when the broker is, TooLarge and Malformed for what no gateway would take."""

    def __init__(self, link: BrokerLink, store: Store, reads: Reads, writer: Writer) -> None:
        self._link = link
        self._store = store
        self._reads = reads
        self._writer = writer

    async def send(self, gateway: str, command_type: str, params: dict[str, Any], ttl_s: float) -> str:
        """Hand a command to the broker, and give its id. A command that could not be handed over leaves no trace."""
        command_id = f"c-{secrets.token_hex(8)}"
        ts_ms = time.time_ns() // 1_000_000
        body = {"id": command_id, "type": command_type, "ts": ts_ms, "ttl_s": ttl_s, "params": params}
        payload = _encode(body, f"the command {command_type}")
        await self._writer.run(lambda: self._store.add_command(gateway, command_id, command_type, ts_ms, ttl_s))
        try:
            await self._link.publish(f"ec/1/{gateway}/command", payload, expiry_s=max(1, math.ceil(ttl_s)))
        except Unreachable as error:
            # Without an acknowledgement the broker may have it all the same: then the reply finds its command.
            if error.code == "cloud.offline":
                await self._writer.run(lambda: self._store.drop_command(gateway, command_id))
            raise
        return command_id

    async def desire(self, gateway: str, body: dict[str, Any]) -> tuple[int, bool]:
        """Keep a desired state and publish it: (revision, whether the broker has it)."""
        for instance, app in body["apps"].items():
            _encode((app or {}).get("manifest") or "", f"the manifest of {instance}")
        _encode(_index(0, body), "the desired index")
        revision, old = await self._writer.run(lambda: self._store.set_desired(gateway, body))
        gone = [instance for instance, app in old.get("apps", {}).items() if app and not body["apps"].get(instance)]
        try:
            await self._publish(gateway, revision, body, gone)
        except Unreachable:
            return revision, False  # `follow` publishes it at the next connect
        return revision, True

    async def follow(self) -> None:
        """Publish all desired states at every connect: a broker that crashed may have lost its retained messages."""
        async for connected in self._link.changes():
            if not connected:
                continue
            with contextlib.suppress(Unreachable):
                for gateway, revision, body in await asyncio.to_thread(self._reads.desired):
                    await self._publish(gateway, revision, body, [])

    async def _publish(self, gateway: str, revision: int, body: dict[str, Any], gone: list[str]) -> None:
        root = f"ec/1/{gateway}/desired"
        for instance, app in body["apps"].items():
            if app and app.get("manifest"):
                await self._link.publish(f"{root}/{instance}", app["manifest"].encode(), retain=True)
        # The index last: when it acts, everything it names is there.
        await self._link.publish(root, _encode(_index(revision, body), "the desired index"), retain=True)
        for instance in gone:
            await self._link.publish(f"{root}/{instance}", b"", retain=True)


def _index(revision: int, body: dict[str, Any]) -> dict[str, Any]:
    apps = {
        instance: None if app is None else {key: app[key] for key in ("release", "state", "values")}
        for instance, app in body["apps"].items()
    }
    return {"revision": revision, "apps": apps, "rules": body["rules"]}


def _encode(body: Any, what: str) -> bytes:
    try:
        payload = body.encode() if isinstance(body, str) else json.dumps(body, allow_nan=False).encode()
    except ValueError:  # it would name the value, and with it perhaps a secret
        raise Malformed(
            "cloud.not_json", f"{what} holds what JSON cannot say: NaN, infinity or half a character"
        ) from None
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise TooLarge("cloud.too_large", f"{what} has {len(payload)} bytes; gateways take {PAYLOAD_MAX_BYTES}")
    return payload
