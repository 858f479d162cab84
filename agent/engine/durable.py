"""What the engine unpacked, on the disk: it syncs what it knows of a layer, and none of the files that lie in it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from agent.errors import TimedOut, Unreachable

_WITHIN_S: Final = 600.0
_HINT: Final = "the engine's disk is slow or failing: `dmesg`; it is tried again"


async def sync_disk(folder: str) -> None:
    """Return when all that was written to the file system of `folder` is on it; at once where nobody here can see it.

    Without that a power cut may leave an image that the engine lists, and whose files are empty. TimedOut, Unreachable.
    """
    if not await asyncio.to_thread(Path(folder).is_dir):
        return
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec("sync", "-f", folder, stdin=quiet, stdout=quiet, stderr=quiet)
    except OSError:  # no such program here: then all file systems, not this one alone
        await asyncio.to_thread(os.sync)
        return
    try:
        async with asyncio.timeout(_WITHIN_S):
            status = await process.wait()
    except TimeoutError:
        words = f"what was written to {folder} is not on the disk after {_WITHIN_S:g} s"
        raise TimedOut("engine.not_synced", words, hint=_HINT) from None
    if status:
        raise Unreachable("engine.not_synced", f"what was written to {folder} is not on the disk", hint=_HINT)
