"""One file from disk as bytes, or a Mistakes that says why not: never a surprise from a stick or a share."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from agent.domain.document import Mark, Mistakes, Problem
from agent.files.yaml import MAX_BYTES

WHY = {
    errno.ENOENT: ("there is no such file", "was it moved or renamed?"),
    errno.EACCES: ("may not be read", "give the agent's user the right to read it"),
    errno.ELOOP: ("its symbolic links lead in a circle", "remove the link"),
    errno.EISDIR: ("is a folder, not a file", "rename the folder"),
}


def read_bytes(path: Path, source: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The file's content. Raises Mistakes: unreadable, not a regular file, or larger than `max_bytes`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise mistake(source, "file.kind", "is not an ordinary file", "put a file here")
            if state.st_size > max_bytes:
                raise mistake(source, "file.too_large", f"{state.st_size} bytes, the most is {max_bytes}", "split it")
            with open(handle, "rb", closefd=False) as stream:
                content = stream.read(max_bytes + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) else None
        words, hint = WHY.get(code or 0, (f"cannot be read: {error}", "look at the disk or the name"))
        raise mistake(source, "file.unreadable", words, hint) from None
    if len(content) > max_bytes:
        raise mistake(source, "file.too_large", f"more than {max_bytes} bytes", "split it")
    return content


def mistake(source: str, code: str, words: str, hint: str) -> Mistakes:
    """A Mistakes about a file as a whole."""
    return Mistakes([Problem(source, Mark(1, 1), code, words, hint)])
