"""What the eSDK and the data plane need to know of an instance, and nothing of how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.domain.container import Live
from agent.domain.grants import Grants


@dataclass(frozen=True, slots=True)
class AppView:
    """One instance as its own containers may see it. `release` is the hash, `limits` go by service."""

    instance: str
    release: str
    version: str
    services: tuple[str, ...] = ()
    grants: Grants = field(default_factory=Grants)
    config: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Live] = field(default_factory=dict)
