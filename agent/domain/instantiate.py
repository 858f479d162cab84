"""From a release and one site's values to exactly the containers, network and volumes that the engine shall have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.domain.appview import AppView
from agent.domain.container import ContainerSpec, NetworkSpec, VolumeSpec
from agent.domain.grants import Grants
from agent.domain.manifest_model import Ask, Update


@dataclass(frozen=True, slots=True)
class AppSpec:
    """One instance, ready to be compared with what the engine has. `containers` stand in start order."""

    instance: str
    release: str
    version: str
    containers: tuple[ContainerSpec, ...] = ()
    dependencies: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    grants: Grants = field(default_factory=Grants)
    update: Update = field(default_factory=Update)
    config: Mapping[str, Any] = field(default_factory=dict)
    ports: tuple[tuple[str, str], ...] = ()
    asks: tuple[Ask, ...] = ()

    def depends_on(self, service: str) -> tuple[tuple[str, str], ...]:
        """Pairs (service, ``started`` or ``healthy``) that must hold before `service` starts."""
        return dict(self.dependencies).get(service, ())

    def bind_sources(self) -> tuple[str, ...]:
        """Host paths of all binds into the APP's folder, for the caller to resolve into `Facts.real_paths`."""
        sources = {mount.source for each in self.containers for mount in each.mounts if mount.kind == "bind"}
        return tuple(sorted(sources))

    def view(self) -> AppView:
        """What the eSDK needs to know of it."""
        return AppView(
            instance=self.instance,
            release=self.release,
            version=self.version,
            services=tuple(each.service for each in self.containers),
            grants=self.grants,
            config=self.config,
            limits={each.service: each.live for each in self.containers},
        )
