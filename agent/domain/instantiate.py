"""From a release and one site's values to exactly the containers, network and volumes that the engine shall have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.domain.appview import AppView
from agent.domain.container import ContainerSpec, NetworkSpec, PlacedFile, VolumeSpec
from agent.domain.document import Problem
from agent.domain.grants import Grants
from agent.domain.instantiate_container import ContainerMaker
from agent.domain.manifest import NAME, find_cycle, read_body
from agent.domain.manifest_findings import as_text
from agent.domain.manifest_interpolation import Environment
from agent.domain.manifest_model import Ask, Service, Update
from agent.domain.manifest_networks import used_networks
from agent.domain.manifest_parameters import BUILT_IN
from agent.domain.policy import Policy
from agent.domain.release import Release
from agent.domain.values import Effective


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
    files: tuple[PlacedFile, ...] = ()
    app_dir: str = ""
    disk_bytes: int = 0
    esdk_dir: str = ""

    def depends_on(self, service: str) -> tuple[tuple[str, str], ...]:
        """Pairs (service, ``started``, ``healthy`` or ``completed``) that must hold before `service` starts."""
        return dict(self.dependencies).get(service, ())

    def bind_sources(self) -> tuple[str, ...]:
        """Host paths of all binds, and of the APP's folder, for the caller to resolve into `Facts.real_paths`.

        Files that the gateway itself writes for the APP are not among them.
        """
        sources = {mount.source for each in self.containers for mount in each.mounts if mount.kind == "bind"}
        return tuple(sorted((sources | {self.app_dir} - {""}) - {each.path for each in self.files}))

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


@dataclass(frozen=True, slots=True)
class Site:
    """Under which name, and with which values."""

    instance: str
    effective: Effective


@dataclass(frozen=True, slots=True)
class Place:
    """Where on this gateway. `app_dir` is the folder of a site's files ("" when there is none), `esdk_dir` the one
    with the instance's socket; `subnet`, for its first network, may be "" for the engine adapter to choose.
    `files_dir` is where the gateway puts the instance's configs and secrets, `devices` the node of each of its ports.
    """

    gateway: str
    prefix: str
    app_dir: str
    esdk_dir: str
    subnet: str
    policy: Policy
    files_dir: str = ""
    devices: Mapping[str, str] = field(default_factory=dict)


def instantiate(release: Release, site: Site, place: Place) -> tuple[AppSpec | None, tuple[Problem, ...]]:
    """The instance's spec, or None and what a site's values made wrong, at its position in the manifest."""
    manifest = release.manifest
    if not NAME.fullmatch(site.instance):
        words = f"'{site.instance}' is no instance's name"
        hint = "1 to 63 of a-z, 0-9 and -, not - at an end"
        return None, (manifest.document.problem((), "values.instance", words, hint),)
    values = {name: as_text(each.value) for name, each in site.effective.values.items()}
    environment = Environment({**values, BUILT_IN: site.instance})
    body, problems = read_body(manifest.document, environment, manifest.volumes, manifest.network)
    order = start_order(body.services)
    maker = ContainerMaker(release, body, site, place)
    containers = tuple(maker.make(service) for service in order)
    problems += tuple(maker.problems)
    if problems:
        return None, problems
    used = {use.source for service in body.services for use in service.volumes if use.kind == "volume"}
    networks: tuple[NetworkSpec, ...] = ()
    if manifest.needs_network:
        made = [maker.network(each) for each in used_networks(body.services, body.networks)]
        networks = (replace(made[0], subnet=place.subnet), *made[1:])
    spec = AppSpec(
        instance=site.instance,
        release=release.hash,
        version=release.version,
        containers=containers,
        dependencies=tuple((service.name, service.depends_on) for service in order if service.depends_on),
        networks=networks,
        volumes=tuple(VolumeSpec(maker.volume(name), site.instance, place.gateway) for name in sorted(used)),
        grants=body.grants,
        update=replace(
            body.update,
            rollback_volumes=tuple(maker.volume(n) for n in body.update.rollback_volumes if n in used),
        ),
        config=site.effective.config,
        ports=tuple((role, str(each.value)) for role, each in sorted(site.effective.ports.items())),
        asks=body.asks,
        files=tuple(maker.files[path] for path in sorted(maker.files)),
        app_dir=place.app_dir,
        disk_bytes=manifest.disk_bytes or place.policy.default_disk_bytes,
        esdk_dir=place.esdk_dir,
    )
    return spec, ()


def start_order(services: Sequence[Service]) -> tuple[Service, ...]:
    """Services after all they depend on, else by name: a release's hash does not count the order of keys."""
    by_name = {service.name: service for service in sorted(services, key=lambda each: each.name)}
    ordered: dict[str, Service] = {}

    def place(service: Service) -> None:
        if service.name in ordered:
            return
        for needed, _ in service.depends_on:
            if needed in by_name:
                place(by_name[needed])
        ordered[service.name] = service

    if find_cycle({service.name: [name for name, _ in service.depends_on] for service in services}):
        return tuple(by_name.values())
    for service in by_name.values():
        place(service)
    return tuple(ordered.values())
