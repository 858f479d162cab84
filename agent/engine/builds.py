"""Images built from a folder with a Dockerfile: without network, with limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import docker
import requests

from agent.engine.client import EngineClient
from agent.engine.context import pack_context
from agent.engine.transfer import Line, transfer
from agent.errors import Failed
from agent.ports import Progress

LABEL_BUILT: Final = "ec.built"
_BUILD_STALL_S: Final = 900.0
_BUILD_MEM_BYTES: Final = 1024**3


async def build(client: EngineClient, folder: str, tag: str, progress: Progress) -> None:
    """An image from `folder` and its Dockerfile, without network, its base images from here if they are.

    `progress` is given each line of the build's own output. Raises Failed with the failing step's words.
    """
    written: list[str] = []

    def take(line: Line) -> None:
        for text in str(line.get("stream", "")).splitlines():
            if text.strip():
                written.append(text)
                del written[:-20]
                progress(0, 0, text)

    def request(api: docker.APIClient) -> requests.Response:
        params = {
            "t": tag,
            "rm": "1",
            "forcerm": "1",
            "networkmode": "none",
            "memory": str(_BUILD_MEM_BYTES),
            "memswap": str(_BUILD_MEM_BYTES),
            "labels": json.dumps({LABEL_BUILT: "1"}),
        }
        with pack_context(Path(folder)) as context:
            return api.post(client.url(api, "/build"), params=params, data=context, stream=True, timeout=_BUILD_STALL_S)

    try:
        await transfer(client, f"building {tag}", request, take, stall_s=_BUILD_STALL_S)
    except Failed as error:
        said = next((t for t in reversed(written) if not t.startswith((" --->", "Removing intermediate"))), "")
        raise Failed(
            "image.build_failed", error.message, hint=f"the build's last line was: {said}", output=written
        ) from error
