"""Images built from a folder with a Dockerfile: without network, with limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import docker
import requests

from agent.domain.dockerfile import BuildHow
from agent.engine.client import EngineClient
from agent.engine.context import SENT_DOCKERFILE, pack_context
from agent.engine.transfer import Line, transfer
from agent.errors import Failed, GatewayError, Malformed, NoSpace
from agent.ports import Progress

log = logging.getLogger("agent.engine.builds")

LABEL_BUILT: Final = "ec.built"
_BUILD_WITHIN_S: Final = 1800.0
_BUILD_STALL_S: Final = 900.0
_BUILD_MEM_BYTES: Final = 1024**3
_ROOM_EVERY_S: Final = 1.0
_UNREADABLE: Final = re.compile(r": (dockerfile parse error|failed to parse \S*dockerfile)\b", re.IGNORECASE)
"""The engine's words for a Dockerfile that it could not read; it has done nothing then."""
_WITHOUT: Final = "its steps have no network, and of links only those that stay within the folder come along"
_MADE: Final = re.compile(r" ---> ([0-9a-f]{12,64})")
_SWEEPS: Final = 3
"""So often it is tried to remove what a build that was stopped has left: the engine takes a moment to end its step."""
_SWEEP_STOPPED_S: Final = 5.0
"""All that time it has where somebody stopped the build, and waits."""


async def build(
    client: EngineClient, folder: str, tag: str, progress: Progress, how: BuildHow, cgroup_parent: str
) -> None:
    """An image from `folder` and its Dockerfile: without network, on bases that are here, on one core, for half an hour.

    `cgroup_parent` holds its steps, "" for the engine's own. `progress` is given each line of the build's own output.
    Raises Failed with the failing step's words; Malformed ``image.bad_dockerfile`` where the engine cannot read it.
    A build that does not come to its end leaves no image of its steps.
    """
    made: list[str] = []
    try:
        await _run(client, folder, tag, progress, how, cgroup_parent, made)
    except asyncio.CancelledError:
        # The agent may be on its way down: a service manager does not wait for an engine that hangs.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SWEEP_STOPPED_S):
                await _sweep(client, made, frozenset(how.bases.values()))
        raise
    except BaseException:
        await _sweep(client, made, frozenset(how.bases.values()))
        raise


async def _run(
    client: EngineClient, folder: str, tag: str, progress: Progress, how: BuildHow, cgroup_parent: str, made: list[str]
) -> None:
    """See `build`; the ids of the images that its steps end with are added to `made`."""
    written: list[str] = []

    def take(line: Line) -> None:
        for text in str(line.get("stream", "")).splitlines():
            if text.strip():
                if found := _MADE.fullmatch(text):
                    made.append(found[1])
                written.append(text)
                del written[:-20]
                progress(0, 0, text)

    def request(api: docker.APIClient) -> requests.Response:
        params = {
            "t": tag,
            "rm": "1",
            "forcerm": "1",
            "networkmode": "none",
            "dockerfile": SENT_DOCKERFILE,
            "buildargs": json.dumps(dict(how.args)),
            "target": how.target,
            "cpuperiod": "100000",
            "cpuquota": "100000",
            "memory": str(_BUILD_MEM_BYTES),
            "memswap": str(_BUILD_MEM_BYTES),
            "cgroupparent": cgroup_parent,
            "labels": json.dumps({LABEL_BUILT: "1"}),
        }
        with pack_context(Path(folder), how) as context:
            return api.post(client.url(api, "/build"), params=params, data=context, stream=True, timeout=_BUILD_STALL_S)

    try:
        async with asyncio.timeout(_BUILD_WITHIN_S):
            await transfer(client, f"building {tag}", request, take, stall_s=_BUILD_STALL_S)
    except TimeoutError:
        raise Failed(
            "image.build_too_long",
            f"building {tag} took longer than {_BUILD_WITHIN_S / 60:g} minutes",
            hint="build it elsewhere and push it",
        ) from None
    except Failed as error:
        if not written and _UNREADABLE.search(error.message):
            raise Malformed("image.bad_dockerfile", error.message, hint="mend the Dockerfile") from error
        said = next((t for t in reversed(written) if not t.startswith((" --->", "Removing intermediate"))), "")
        hint = f"the build's last line was: {said}; {_WITHOUT}" if said else "see the engine's log"
        raise Failed("image.build_failed", error.message, hint=hint, output=written) from error


async def _sweep(client: EngineClient, made: Sequence[str], bases: Collection[str]) -> None:
    """Remove the images of a build's steps, the last one first: no list of images names them, and no clean-up finds them.

    What has a name, a container or another image upon it is somebody's and stays, as do `bases`. Best effort.
    """

    def remove(api: docker.APIClient) -> bool:
        busy = False
        for image in reversed(made):
            try:
                found = api.inspect_image(image)  # type: ignore[no-untyped-call]
                if found["Id"] not in bases and not found.get("RepoTags") and not found.get("RepoDigests"):
                    api.remove_image(found["Id"], noprune=True)
            except docker.errors.ImageNotFound:
                continue
            except docker.errors.APIError:
                busy = True
        return busy

    for _ in range(_SWEEPS if made else 0):
        try:
            if not await client.call("removing what a build has left", remove, within_s=60, slow=True):
                return
        except GatewayError as error:
            log.info("build_left_images code=%s reason=%s", error.code, error)
            return
        await asyncio.sleep(1)


async def within_room(
    building: Coroutine[Any, Any, None], tag: str, require_room: Callable[[int], Awaitable[None]]
) -> None:
    """A build, stopped once it has taken the engine's disk down to its reserve: no engine limits what a step writes."""
    task = asyncio.create_task(building, name=f"build {tag}")
    try:
        while not (await asyncio.wait({task}, timeout=_ROOM_EVERY_S))[0]:
            try:
                await require_room(1)
            except NoSpace as error:
                said = f"building {tag} was stopped: {error.message}"
                hint = "free space (`ecgw image prune`), or build it elsewhere and push it"
                raise Failed("image.build_too_large", said, hint=hint, **error.fields) from error
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
