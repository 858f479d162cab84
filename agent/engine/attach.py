"""Puts a container on networks, one at a time, as engines before 25 want it, and takes it off them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.domain.container import Attachment
from agent.engine.client import EngineClient
from agent.errors import GatewayError, NotFound


async def connect(client: EngineClient, container_id: str, networks: Sequence[Attachment]) -> None:
    """Connect a container under its names; where it is on one already, that one is left alone."""
    for each in networks:
        body = {"Container": container_id, "EndpointConfig": {"Aliases": list(each.aliases)}}
        doing = f"connecting container {container_id[:12]} to {each.network}"
        try:
            await _post(client, doing, f"/networks/{each.network}/connect", body, but="already")
        except NotFound as error:
            words = f"network {each.network} of container {container_id[:12]} is not there"
            raise NotFound("engine.network_not_found", words, hint="it is made again by itself") from error


async def disconnect(client: EngineClient, container_id: str, networks: Sequence[str]) -> None:
    """Take a container off networks; those it is not on, or that are gone, are left alone."""
    for name in networks:
        doing = f"disconnecting container {container_id[:12]} from {name}"
        try:
            await _post(client, doing, f"/networks/{name}/disconnect", {"Container": container_id}, but="not connected")
        except NotFound:
            continue


async def _post(client: EngineClient, doing: str, path: str, body: Mapping[str, Any], *, but: str) -> None:
    """Post, and be content when the engine refuses with `but` in its words: it is so already."""
    try:
        await client.call(doing, lambda api: client.post(api, path, dict(body)))
    except GatewayError as error:
        if but not in error.message:
            raise
