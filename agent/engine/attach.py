"""Connects a container to the networks that its create call could not take: engines before 25 take only one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.domain.container import LABEL_NETWORKS, ContainerSpec
from agent.engine.client import EngineClient
from agent.engine.observed import labels_of
from agent.errors import NotFound, Refused

Wanted = Sequence[Sequence[str]]
"""One [network, alias, ...] each."""


class Attacher:
    """Knows which containers this process has connected fully, so that a start need not ask.

    A process killed between a container's creation and its last connection leaves the rest in the container's label,
    which the next start reads.
    """

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._whole: set[str] = set()

    async def attach(self, container_id: str, spec: ContainerSpec) -> None:
        """Connect a container that was just made from `spec`."""
        await self._connect(container_id, [[each.network, *each.aliases] for each in spec.networks[1:]])

    async def complete(self, container_id: str) -> None:
        """Connect what is missing, before a start."""
        if container_id in self._whole:
            return

        def find(client: Any) -> Mapping[str, Any]:
            return dict(client.inspect_container(container_id))

        document = await self._client.call(f"inspecting container {container_id[:12]}", find)
        wanted: Wanted = json.loads(labels_of(document).get(LABEL_NETWORKS, "[]"))
        present = (document.get("NetworkSettings") or {}).get("Networks") or {}
        await self._connect(container_id, [each for each in wanted if each[0] not in present])

    def forget(self, container_id: str) -> None:
        """The container is gone."""
        self._whole.discard(container_id)

    async def _connect(self, container_id: str, wanted: Wanted) -> None:
        for name, *aliases in wanted:
            body = {"Container": container_id, "EndpointConfig": {"Aliases": list(aliases)}}

            def connect(client: Any, name: str = name, body: dict[str, Any] = body) -> None:
                self._client.post(client, f"/networks/{name}/connect", body)

            try:
                await self._client.call(f"connecting container {container_id[:12]} to {name}", connect)
            except NotFound as error:
                words = f"network {name} of container {container_id[:12]} is not there"
                raise NotFound("engine.network_not_found", words, hint="it is made again by itself") from error
            except Refused as error:
                if "already" not in error.message:
                    raise
        self._whole.add(container_id)
