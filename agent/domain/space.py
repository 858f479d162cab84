"""Whether an image fits before it is fetched, and when images are cleaned up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.domain.imageplan import Layer, Packing
from agent.errors import NoSpace, Refused

UNPACKED_FACTOR: Final = 3
"""How much larger than in the registry a packed layer is taken to be on disk: gzip makes program files 2 to 3 times smaller."""
MIB: Final = 1024**2
STATE_FOLDER: Final = "the state folder"
ENGINE_FOLDER: Final = "the engine's folder"
"""What people call where images are fetched to, and where the engine keeps them: mostly one disk, at times two."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system as it is now. `device` tells two apart."""

    device: int
    free_bytes: int
    total_bytes: int

    @property
    def used_percent(self) -> float:
        """How full it is for who may not use what is set aside for root."""
        return 100.0 * (1 - self.free_bytes / self.total_bytes) if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """So many bytes more on a disk. `where` names it for people."""

    where: str
    disk: Disk
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Images are cleaned up when the engine's disk is fuller than `high_percent`, until it is below `low_percent`.

    `reserve_bytes` stay free on each disk whatever is fetched.
    """

    high_percent: float = 85.0
    low_percent: float = 75.0
    reserve_bytes: int = 64 * MIB


def unpacked_bytes(layers: Iterable[Layer]) -> int:
    """What layers will take once they are unpacked, as far as their packed sizes tell."""
    return sum(
        layer.blob.size_bytes * (1 if layer.packing is Packing.PLAIN else UNPACKED_FACTOR) for layer in set(layers)
    )


def require_room(needs: Sequence[Need], reserve_bytes: int) -> None:
    """NoSpace ``image.no_space``, with `where`, `needed_bytes`, `free_bytes` and `reserve_bytes`, when a disk has not enough.

    Refused ``image.too_large``, with `total_bytes` instead, when it never will have: not even with nothing else on it.
    """
    for device in dict.fromkeys(need.disk.device for need in needs):
        here = [need for need in needs if need.disk.device == device]
        needed = sum(need.size_bytes for need in here)
        free = min(need.disk.free_bytes for need in here)
        if needed and needed + reserve_bytes > free:
            where = " and ".join(dict.fromkeys(need.where for need in here))
            total = min(need.disk.total_bytes for need in here)
            if needed + reserve_bytes > total:
                raise Refused(
                    "image.too_large",
                    f"the image needs about {needed // MIB + 1} MiB in {where}; the whole disk has {total // MIB} MiB,"
                    f" of which {reserve_bytes // MIB} MiB are kept as reserve",
                    hint="make the image smaller, or have a technician fit a larger disk or lower the reserve",
                    needed_bytes=needed,
                    total_bytes=total,
                    reserve_bytes=reserve_bytes,
                )
            raise NoSpace(
                "image.no_space",
                f"the image needs about {needed // MIB + 1} MiB in {where}; {free // MIB} MiB are free,"
                f" of which {reserve_bytes // MIB} MiB are kept as reserve",
                hint="free space: `ecgw image prune`, or remove an APP; it is tried again",
                where=where,
                needed_bytes=needed,
                free_bytes=free,
                reserve_bytes=reserve_bytes,
            )
