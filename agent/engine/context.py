"""The tar that a build sends to the engine: a folder with a Dockerfile, less what its .dockerignore names."""

from __future__ import annotations

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from docker.utils import build as docker_build

from agent.domain.dockerfile import BuildHow, with_ids
from agent.errors import Failed, Malformed, NoSpace, TooLarge

SENT_DOCKERFILE: Final = ".ec.Dockerfile"
"""The name in the context of the Dockerfile whose bases are named by id."""
_MAX_CONTEXT_BYTES: Final = 512 * 1024**2
_MAX_TEXT_BYTES: Final = 1024**2
_IGNORED: Final = ".dockerignore"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def read_dockerfile(folder: Path, how: BuildHow) -> str:
    """The Dockerfile's text. Blocks: for threads. Malformed without one, when it is no text or lies outside."""
    if not (folder / how.dockerfile).is_file():
        raise Malformed(
            "image.no_dockerfile", f"{folder} holds no {how.dockerfile}", hint="name the folder that has one"
        )
    return _read_text(folder, how.dockerfile, "image.bad_dockerfile")


def pack_context(folder: Path, how: BuildHow) -> IO[bytes]:
    """The context as a temporary file that vanishes when closed. Blocks: for threads only.

    Raises Malformed without a Dockerfile, TooLarge above 512 MiB, NoSpace, Failed.
    """
    text = with_ids(read_dockerfile(folder, how), how)
    measure_context(folder, how)
    with _words(folder):
        sent = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
    try:
        with _words(folder):
            dockerfile = (SENT_DOCKERFILE, text)
            docker_build.tar(folder, exclude=_read_ignored(folder), dockerfile=dockerfile, fileobj=sent)
    except BaseException:
        with suppress(OSError):  # what is not written yet cannot be
            sent.close()
        raise
    return sent


def measure_context(folder: Path, how: BuildHow) -> int:
    """The bytes of the files in the context. Blocks: for threads only. TooLarge above 512 MiB."""
    ignored = _read_ignored(folder)
    size_bytes = 0
    with _words(folder):
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
    if not (folder / _IGNORED).is_file():
        return []
    lines = (line.strip() for line in _read_text(folder, _IGNORED, "image.bad_dockerignore").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read_text(folder: Path, name: str, code: str) -> str:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Malformed(code, f"{path} leads out of its folder", hint="put the file itself there")
    try:
        with _words(folder):
            if path.stat().st_size > _MAX_TEXT_BYTES:
                raise Malformed(code, f"{path} is larger than 1 MiB", hint=f"is it a {name}?")
            return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(code, f"{path} is not text in UTF-8 ({error.reason})") from None


@contextmanager
def _words(folder: Path) -> Iterator[None]:
    """What the disk says of the context, and what is wrong with a pattern, as the gateway's own errors."""
    try:
        yield
    except re.error as error:
        words = f"{folder / _IGNORED} has a pattern that means nothing: {error}"
        raise Malformed("image.bad_dockerignore", words, hint="see its [ ] and \\") from None
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        kind = NoSpace if cause.errno in _FULL else Failed
        words = f"the context {folder} cannot be packed: {cause.strerror or cause}"
        raise kind("image.context", words, hint="look at the folder, and at the room in the gateway's /tmp") from error
