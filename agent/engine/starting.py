"""Starting a container, and what becomes of one that the engine can never start again. Blocking."""

from __future__ import annotations

from typing import Final

import docker
from docker import errors as docker_errors

from agent.engine.translate import TORN, translate

_LOST: Final = frozenset({"engine.container_stuck", TORN})


def start_or_resume(client: docker.APIClient, container_id: str) -> None:
    """Start it, or let one go on that somebody paused. What can never be started is removed, so that it is made anew."""
    try:
        client.start(container_id)
    except docker_errors.APIError as error:
        if translate(error, "").code in _LOST:
            client.remove_container(container_id, v=True, force=True)
        if "paused" not in str(error):
            raise
        client.unpause(container_id)
