"""The tar that a build sends to the engine: a folder with a Dockerfile, less what its .dockerignore names."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final, cast

from docker.utils import build as docker_build

from agent.domain.dockerfile import BuildHow, with_ids
from agent.errors import Malformed, TooLarge

SENT_DOCKERFILE: Final = ".ec.Dockerfile"
"""The name in the context of the Dockerfile whose bases are named by id."""
_MAX_CONTEXT_BYTES: Final = 512 * 1024**2
_MAX_DOCKERFILE_BYTES: Final = 1024**2


def read_dockerfile(folder: Path, how: BuildHow) -> str:
    """The Dockerfile's text. Blocks: for threads. Malformed without one, when it is no text or lies outside."""
    path = folder / how.dockerfile
    if not path.is_file():
        raise Malformed(
            "image.no_dockerfile", f"{folder} holds no {how.dockerfile}", hint="name the folder that has one"
        )
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Malformed("image.bad_dockerfile", f"{path} leads out of its folder", hint="put the file itself there")
    try:
        if path.stat().st_size > _MAX_DOCKERFILE_BYTES:
            raise Malformed("image.bad_dockerfile", f"{path} is larger than 1 MiB", hint="is it a Dockerfile?")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("image.bad_dockerfile", f"{path} is not text in UTF-8 ({error.reason})") from None


def pack_context(folder: Path, how: BuildHow) -> IO[bytes]:
    """The context as a temporary file that vanishes when closed. Blocks: for threads only.

    Raises Malformed without a Dockerfile, TooLarge above 512 MiB.
    """
    text = with_ids(read_dockerfile(folder, how), how)
    measure_context(folder, how)
    sent = docker_build.tar(folder, exclude=_read_ignored(folder), dockerfile=(SENT_DOCKERFILE, text))
    return cast("IO[bytes]", sent)


def measure_context(folder: Path, how: BuildHow) -> int:
    """The bytes of the files in the context. Blocks: for threads only. TooLarge above 512 MiB."""
    ignored = _read_ignored(folder)
    size_bytes = 0
    for name in docker_build.exclude_paths(str(folder), ignored, dockerfile=how.dockerfile):
        path = folder / name
        if path.is_file() and not path.is_symlink():
            size_bytes += path.stat().st_size
    if size_bytes > _MAX_CONTEXT_BYTES:
        raise TooLarge(
            "image.context_too_large",
            f"{folder} holds {size_bytes // 1024**2} MiB, more than {_MAX_CONTEXT_BYTES // 1024**2}",
            hint="leave out what the image does not need by a .dockerignore",
        )
    return size_bytes


def _read_ignored(folder: Path) -> list[str]:
    path = folder / ".dockerignore"
    if not path.is_file():
        return []
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
