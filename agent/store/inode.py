"""Which file this is: its number on the device, and its generation, which a copy does not get.

A number alone is given again as soon as its file is deleted: a backup that is restored in its place may get it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

_GENERATION = struct.Struct("=I")
_LONG = struct.calcsize("l")
# _IOR('v', 1, long): the kernel names a long and writes an int.
_GET_VERSION = 0x80007601 | _LONG << 16


def name_open_file(path: Path) -> str:
    """``device:inode:generation`` of a file that this process holds open; the generation is empty where none is told.

    OSError when there is no file. tmpfs gives no number twice; on overlay and network file systems the number alone counts.
    """
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}:{_read_generation(found)}"


def _read_generation(found: os.stat_result) -> str:
    """Through a descriptor that is open already: opening the file anew and closing it would drop SQLite's locks on it."""
    with contextlib.suppress(OSError):
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # others open and close theirs meanwhile
                if os.path.samestat(os.fstat(int(entry.name)), found):
                    buffer = bytearray(_LONG)
                    fcntl.ioctl(int(entry.name), _GET_VERSION, buffer)
                    return str(_GENERATION.unpack_from(buffer)[0])
    return ""
