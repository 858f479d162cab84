"""A listening Unix socket of the right mode at the right place, in one step."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from agent.errors import Failed, Malformed

MAX_PATH_BYTES = 107
BACKLOG = 64


def bind_unix(path: Path, mode: int, owner: tuple[int, int] | None = None, staged: Path | None = None) -> socket.socket:
    """Bind and listen at `path`; blocking calls, all short. A stale socket is replaced.

    The socket gets its mode and owner under the name `staged` first and is then renamed: umask plays no part, and where
    `staged` is in a folder of ours alone, nobody can make us change the mode of something else. Raises Malformed for a
    path over 107 bytes or a taken name, Failed when the system refuses.
    """
    staged = staged or path.with_name(f".{path.name[:-1]}")
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise Malformed(
            "http.socket_path_too_long",
            f"the path of a Unix socket ends at {MAX_PATH_BYTES} bytes, and this has {size}: {path}",
            hint="use a shorter state folder",
            path=str(path),
        )
    _refuse_taken(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        staged.unlink(missing_ok=True)
        listener.bind(os.fspath(staged))
        if owner is not None:
            os.chown(staged, *owner)
        staged.chmod(mode)
        listener.listen(BACKLOG)
        staged.replace(path)
    except OSError as error:
        listener.close()
        staged.unlink(missing_ok=True)
        raise Failed(
            "http.socket_failed",
            f"cannot listen at {path}: {error.strerror}",
            hint="check the folder's owner and space",
        ) from error
    return listener


def _refuse_taken(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
        raise Malformed(
            "http.socket_path_taken", f"{path} is there and is not a socket", hint="move it away", path=str(path)
        )
