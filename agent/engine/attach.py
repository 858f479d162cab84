"""Puts a container on networks, one at a time, as engines before 25 want it, and takes it off them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from agent.domain.container import Attachment
from agent.engine.client import EngineClient
from agent.errors import GatewayError, NotFound

_NETWORK_GONE = "engine.network_not_found"


async def connect(client: EngineClient, container_id: str, networks: Sequence[Attachment]) -> None:
    """Connect a container under its names; where it is on one already, that one is left alone."""
    for each in networks:
        body = {"Container": container_id, "EndpointConfig": {"Aliases": list(each.aliases)}}
        doing = f"connecting container {container_id[:12]} to {each.network}"
        try:
            await _post(client, doing, f"/networks/{each.network}/connect", body, but="already")
        except NotFound as error:
            words = f"network {each.network} of container {container_id[:12]} is not there"
            raise NotFound(_NETWORK_GONE, words, hint="it is made again by itself") from error


async def disconnect(client: EngineClient, container_id: str, networks: Sequence[str]) -> None:
    """Take a container off networks; those it is not on, or that are gone, are left alone."""
    for name in networks:
        doing = f"disconnecting container {container_id[:12]} from {name}"
        try:
            await _post(client, doing, f"/networks/{name}/disconnect", {"Container": container_id}, but="not connected")
        except NotFound:
            continue


async def starting(client: EngineClient, container_id: str, start: Callable[[], Awaitable[None]]) -> None:
    """Start; one whose network was removed and made again under the same name is put on the new one first.

    The engine holds on to the old one's id, and would look for it for ever.
    """
    try:
        await start()
    except NotFound as error:
        if error.code != _NETWORK_GONE:
            raise
        await _renew(client, container_id)
        await start()


async def _renew(client: EngineClient, container_id: str) -> None:
    doing = f"inspecting container {container_id[:12]}"
    document: Mapping[str, Any] = await client.call(doing, lambda api: api.inspect_container(container_id))
    wires: Mapping[str, Any] = document["NetworkSettings"]["Networks"] or {}
    # The engine adds the container's short id to the names.
    own = container_id[:12]
    again = [Attachment(name, tuple(a for a in wire["Aliases"] or () if a != own)) for name, wire in wires.items()]
    await disconnect(client, container_id, tuple(wires))
    await connect(client, container_id, again)


async def _post(client: EngineClient, doing: str, path: str, body: Mapping[str, Any], *, but: str) -> None:
    """Post, and be content when the engine refuses with `but` in its words: it is so already."""
    try:
        await client.call(doing, lambda api: client.post(api, path, dict(body)))
    except GatewayError as error:
        if but not in error.message:
            raise
