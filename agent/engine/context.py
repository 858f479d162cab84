"""The tar that a build sends to the engine: a folder with a Dockerfile, less what its .dockerignore names."""

from __future__ import annotations

from pathlib import Path
from typing import IO, cast

from docker.utils import build as docker_build

from agent.errors import NotFound, TooLarge

_MAX_CONTEXT_BYTES = 512 * 1024**2


def pack_context(folder: Path) -> IO[bytes]:
    """The context as a temporary file that vanishes when closed. Blocks: for threads only.

    Raises NotFound without a Dockerfile, TooLarge above 512 MiB.
    """
    if not (folder / "Dockerfile").is_file():
        raise NotFound("image.no_dockerfile", f"{folder} holds no Dockerfile", hint="name the folder that has one")
    ignored = _read_ignored(folder)
    size_bytes = 0
    for name in docker_build.exclude_paths(str(folder), ignored, dockerfile="Dockerfile"):
        path = folder / name
        if path.is_file() and not path.is_symlink():
            size_bytes += path.stat().st_size
    if size_bytes > _MAX_CONTEXT_BYTES:
        raise TooLarge(
            "image.context_too_large",
            f"{folder} holds {size_bytes // 1024**2} MiB, more than {_MAX_CONTEXT_BYTES // 1024**2}",
            hint="leave out what the image does not need by a .dockerignore",
        )
    return cast("IO[bytes]", docker_build.tar(folder, exclude=ignored, dockerfile=("Dockerfile", None)))


def _read_ignored(folder: Path) -> list[str]:
    path = folder / ".dockerignore"
    if not path.is_file():
        return []
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
