"""A limit on folders that the file system itself keeps: project quotas, of XFS and ext4, where they are switched on.

A folder gets a project's number, which everything made in it inherits; the number has a limit. A file system without
them is no error: then the folders are only measured.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.host.tree import Descent

_FSXATTR = struct.Struct("=IIIII8x")
_GET, _SET = 0x801C581F, 0x401C5820
_INHERIT = 0x200
_DQBLK = struct.Struct("=8QI4x")
_SET_QUOTA = (0x800008 << 8) | 2
_BLOCK_LIMITS = 1
_BLOCK = 1024
_SYSTEMS = frozenset({"xfs", "ext4"})
_OPTIONS = frozenset({"prjquota", "pquota"})
_UNABLE = frozenset({errno.ENOSYS, errno.ESRCH, errno.EINVAL, errno.ENOTSUP, errno.ENOTTY, errno.EPERM, errno.ENOENT})


@dataclass(frozen=True, slots=True)
class Mounted:
    """A file system that keeps project quotas: its device and where it is."""

    device: str
    at: str


def find_quotas(folder: str, mounts: Path = Path("/proc/self/mounts")) -> Mounted | None:
    """The file system that `folder` is on, when project quotas are switched on there; None when not."""
    found: tuple[str, str, str, str] | None = None
    # A stick may bear a name in any encoding.
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        device, at, kind, options = line.split()[:4]
        at = at.replace("\\040", " ")
        inside = folder == at or folder.startswith(at.rstrip("/") + "/")
        # Of two mounts at one place the later one is what is seen.
        if inside and (found is None or len(at) >= len(found[1])):
            found = (device, at, kind, options)
    if found is None or found[2] not in _SYSTEMS or not _OPTIONS & set(found[3].split(",")):
        return None
    return Mounted(found[0], found[1])


def project_of(name: str) -> int:
    """The project's number of an instance: the same for ever, far above those that engines give."""
    return 0x40000000 | (zlib.crc32(name.encode()) & 0x3FFFFFFF)


def cap(name: str, folders: Sequence[str], limit_bytes: int, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Have the file system hold all `folders` of `name` together to `limit_bytes` (0: none); True when it does.

    What is in them already counts too. False when one of them is on a file system that cannot, or will not.
    """
    if not folders:
        return False
    project = project_of(name)
    for folder in folders:
        mounted = find_quotas(folder, mounts)
        if mounted is None:
            return False
        try:
            _limit(mounted.device, project, limit_bytes)
            mark(folder, project)
        except OSError as error:
            if error.errno in _UNABLE:
                return False
            raise
    return True


def mark(folder: str, project: int) -> None:
    """Give `folder`, and all that is in it, the project's number. OSError where the file system has no such numbers."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with contextlib.closing(Descent(top)) as descent:
        _number(top, project, inherit=True)
        while (entry := descent.next()) is not None:
            # What vanishes or changes meanwhile is made anew, and inherits.
            with contextlib.suppress(OSError):
                found = os.stat(entry.name, dir_fd=descent.here, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and not descent.full:
                    descent.enter(entry.name)
                    _number(descent.here, project, inherit=True)
                elif stat.S_ISREG(found.st_mode):
                    file = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descent.here)
                    try:
                        _number(file, project, inherit=False)
                    finally:
                        os.close(file)


def read_project(folder: str) -> int:
    """The project's number of a folder; OSError where the file system has none."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        buffer = bytearray(_FSXATTR.size)
        fcntl.ioctl(fd, _GET, buffer)
        return int(_FSXATTR.unpack(bytes(buffer))[3])
    finally:
        os.close(fd)


def _number(fd: int, project: int, *, inherit: bool) -> None:
    buffer = bytearray(_FSXATTR.size)
    fcntl.ioctl(fd, _GET, buffer)
    flags, extent, _, before, cow = _FSXATTR.unpack(bytes(buffer))
    after = flags | _INHERIT if inherit else flags
    if (before, flags) != (project, after):
        fcntl.ioctl(fd, _SET, _FSXATTR.pack(after, extent, 0, project, cow))


def _limit(device: str, project: int, limit_bytes: int) -> None:
    import ctypes  # only where there are quotas to set

    blocks = -(-limit_bytes // _BLOCK)
    body = ctypes.create_string_buffer(_DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _BLOCK_LIMITS), _DQBLK.size)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.quotactl(ctypes.c_int(_SET_QUOTA), os.fsencode(device), ctypes.c_int(project), body):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
