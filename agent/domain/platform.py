"""What processor a gateway has and an image is made for, in the registries' words, and which of them runs which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}
_ARM: Final = re.compile(r"armv([0-9])")
_WRITTEN: Final = re.compile(r"(?:linux/)?([a-z0-9_]{1,16})(?:/(v[0-9]{1,2}))?")
_OLDEST_ARM: Final = 5
_USUAL_ARM: Final = 7


@dataclass(frozen=True, slots=True)
class Platform:
    """Architecture and variant: amd64; arm64; arm with v7. Variant "": not told."""

    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return self.architecture + (f"/{self.variant}" if self.variant else "")

    def variants(self) -> tuple[str, ...]:
        """Variants of images that surely run here, best first. An ARM that does not tell is taken for a v7."""
        if self.architecture == "arm":
            newest = int(self.variant.removeprefix("v") or _USUAL_ARM)
            return (*(f"v{number}" for number in range(newest, _OLDEST_ARM - 1, -1)), "")
        if self.architecture == "arm64":
            return "", "v8"
        return "", "v1"

    def surely_fails(self, made_for: Platform) -> bool:
        """True when an image made for that cannot run here.

        The levels of amd64 and of arm64 are not among the engine's facts: an image that needs a higher one passes.
        """
        if self.architecture != made_for.architecture:
            return True
        return self.architecture == "arm" and bool(self.variant) and made_for.variant not in self.variants()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about the engine, and what it runs."""

    version: str
    api_version: str
    platform: Platform
    cpus: int
    mem_bytes: int
    root_dir: str
    storage_driver: str


def read_machine(machine: str) -> Platform:
    """What the kernel calls its machine (x86_64, armv6l, armv5tejl) -> the registries' words; unknown ones stay."""
    arm = _ARM.match(machine)
    return Platform("arm", f"v{arm[1]}") if arm else Platform(_MACHINES.get(machine, machine))


def read_platform(text: str) -> Platform:
    """A platform as people and registries write it: arm64, arm/v7, linux/arm/v6, a kernel's aarch64. ValueError for the rest."""
    written = _WRITTEN.fullmatch(text)
    machine = read_machine(written[1]) if written is not None else Platform("")
    if written is None or (written[2] and machine.variant):
        raise ValueError(f"{text[:40]!r} is no platform; it is written as amd64, arm64, arm/v7 or linux/arm/v6")
    return Platform(machine.architecture, written[2] or machine.variant)
