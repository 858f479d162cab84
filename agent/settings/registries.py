"""The sections about images: which registries, how they are reached, and when images are cleaned up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from agent.files.quantities import PositiveS, SizeBytes, between
from agent.files.shape import Shape
from agent.files.words import FilePath, Registry, RegistryHostName

KIB = 1024
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class RegistryHost(Shape):
    """How one registry or mirror is reached."""

    mirrors: Annotated[
        tuple[RegistryHostName, ...],
        Field(max_length=8, description="hosts (host or host:port) that are asked before it, in this order"),
    ] = ()
    ca: Annotated[FilePath, Field(description="file with the certificates that may sign its own")] = ""
    insecure: Annotated[bool, Field(description="true speaks plain HTTP to it; loopback needs no saying")] = False
    username: Annotated[str, Field(max_length=256, description="who the gateway is there")] = ""
    password_file: Annotated[FilePath, Field(description="file with the password or token alone, mode 0600")] = ""


@dataclass(frozen=True, slots=True)
class Registries(Shape):
    """Where images may come from, and how they are fetched."""

    allow: Annotated[
        tuple[Registry, ...],
        Field(max_length=64, description="registries (host, host:port or host/path) that images may be pulled from"),
    ] = ("docker.io", "127.0.0.1:5000", "localhost:5000")
    hosts: Annotated[
        Mapping[RegistryHostName, RegistryHost],
        Field(description="host: {mirrors, ca, insecure, username, password_file}, for registries and for mirrors"),
    ] = field(default_factory=dict)
    rate_bytes: Annotated[
        Annotated[SizeBytes, between(KIB, GIB, "1K to 1G")] | None,
        Field(alias="rate", description="most that all fetches together take a second, 1K to 1G; absent: no cap"),
    ] = None
    stall_s: Annotated[
        PositiveS,
        between(1, 600, "1s to 10m"),
        Field(alias="stall", description="a fetch without a byte for so long is given up and tried again, 1s to 10m"),
    ] = 60.0
    at_once: Annotated[int, Field(ge=1, le=8, description="layers that are fetched at a time")] = 3


@dataclass(frozen=True, slots=True)
class Images(Shape):
    """When images that no APP runs or may go back to are removed. The reserve is `policy.capacity.disk_reserve`."""

    high_percent: Annotated[
        float, Field(ge=1, le=100, description="the engine's disk fuller than this: images are removed, oldest first")
    ] = 85.0
    low_percent: Annotated[float, Field(ge=0, le=100, description="until it is less full than this")] = 75.0
