"""Puts a container on networks, one at a time, as engines before 25 want it, and takes it off them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.domain.container import Attachment
from agent.engine.body import endpoint_body
from agent.engine.client import EngineClient
from agent.engine.observed import read_attachments
from agent.errors import GatewayError, NotFound

_NETWORK_GONE = "engine.network_not_found"
_CONTAINER_GONE = "engine.container_not_found"
_ADDRESS_TAKEN = "engine.address_taken"


async def connect(client: EngineClient, container_id: str, networks: Sequence[Attachment]) -> None:
    """Connect a container under its names; where it is on one already, that one is left alone.

    One that shall have its address again is left to the engine's choice first: what is asked for by name, the engine asks
    for at every later start, too, when another may have it.
    """
    for each in networks:
        await _join(client, container_id, replace(each, address=""))
        if each.address and await _address(client, container_id, each.network) not in ("", each.address):
            await disconnect(client, container_id, (each.network,))
            try:
                await _join(client, container_id, each)
            except GatewayError:
                await _join(client, container_id, replace(each, address=""))


async def _join(client: EngineClient, container_id: str, joined: Attachment) -> None:
    body = {"Container": container_id, "EndpointConfig": endpoint_body(joined)}
    doing = f"connecting container {container_id[:12]} to {joined.network}"
    try:
        await _post(client, doing, f"/networks/{joined.network}/connect", body, but="already exists in network")
    except NotFound as error:
        if error.code == _CONTAINER_GONE:
            raise
        words = f"network {joined.network} of container {container_id[:12]} is not there"
        raise NotFound(_NETWORK_GONE, words, hint="it is made again by itself") from error


async def _address(client: EngineClient, container_id: str, network: str) -> str:
    found = await _attachments(client, container_id)
    return next((each.address for each in found if each.network == network), "")


async def disconnect(client: EngineClient, container_id: str, networks: Sequence[str]) -> None:
    """Take a container off networks; those it is not on, or that are gone, are left alone."""
    for name in networks:
        doing = f"disconnecting container {container_id[:12]} from {name}"
        try:
            await _post(client, doing, f"/networks/{name}/disconnect", {"Container": container_id}, but="not connected")
        except NotFound:
            continue


async def starting(client: EngineClient, container_id: str, start: Callable[[], Awaitable[None]]) -> None:
    """Start; one that cannot be on its networks as they were is connected anew first.

    Of a network that was removed and made again under the same name the engine holds on to the old one's id, and would look
    for it for ever; and an address that it once was given by name may be another's by now.
    """
    try:
        await start()
    except GatewayError as error:
        if error.code not in (_NETWORK_GONE, _ADDRESS_TAKEN):
            raise
        await _renew(client, container_id)
        await start()


async def _renew(client: EngineClient, container_id: str) -> None:
    on = await _attachments(client, container_id)
    await disconnect(client, container_id, tuple(each.network for each in on))
    await connect(client, container_id, tuple(replace(each, address="") for each in on))


async def _attachments(client: EngineClient, container_id: str) -> tuple[Attachment, ...]:
    doing = f"inspecting container {container_id[:12]}"
    document: Mapping[str, Any] = await client.call(doing, lambda api: api.inspect_container(container_id))
    return read_attachments(document) or ()


async def _post(client: EngineClient, doing: str, path: str, body: Mapping[str, Any], *, but: str) -> None:
    """Post, and be content when the engine refuses with `but` in its words: it is so already."""
    try:
        await client.call(doing, lambda api: client.post(api, path, dict(body)))
    except GatewayError as error:
        if but not in error.message or error.code == _ADDRESS_TAKEN:
            raise
