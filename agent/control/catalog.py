"""Releases and what they become here: parsed once, turned into container specs, and made known to the eSDK."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from agent.control.ledger import Ledger
from agent.domain.app import Desired, Layer, Trial, Version
from agent.domain.appview import AppView
from agent.domain.container import PlacedFile
from agent.domain.document import Mistakes, Problem
from agent.domain.instantiate import AppSpec, Place, Site, instantiate
from agent.domain.journal import Change, StoredRelease
from agent.domain.manifest import read_manifest
from agent.domain.manifest_model import Manifest
from agent.domain.policy import Policy
from agent.domain.release import Release, make_release
from agent.domain.values import Effective, LayerFrom, layer_values
from agent.errors import Failed, GatewayError
from agent.files.yaml import read_document


class AppDoors(Protocol):
    """The eSDK's socket directories: they exist before a container does and go after the last one."""

    def folder(self, instance: str) -> Path: ...
    async def open(self, view: AppView) -> None: ...
    async def close(self, instance: str, *, remove: bool) -> None: ...


class FileShelf(Protocol):
    """The folder where the gateway writes an instance's configs and secrets."""

    def folder(self, instance: str) -> Path: ...
    async def put(self, instance: str, files: Sequence[PlacedFile], *, tidy: bool) -> None:
        """Have exactly these files on disk, or, without `tidy`, these too."""
        ...

    async def clear(self, instance: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Premises:
    """What this gateway is to its APPs: its id, the prefix of its objects on the engine, its rules, its own ports.

    `ports` maps each port's logical name to its kind; None: not known. `devices` maps those that have one to the
    device node behind them; `shared_ports` may be held by several APPs.
    """

    gateway: str
    prefix: str
    policy: Policy
    ports: Mapping[str, str] | None = None
    devices: Mapping[str, str] = field(default_factory=dict)
    shared_ports: frozenset[str] = frozenset()


Viewer = Callable[[Mapping[str, AppView]], None]


class Catalog:
    """Releases by hash and specs by instance, remembered while their inputs stay the same."""

    def __init__(self, ledger: Ledger, premises: Premises, doors: AppDoors, shelf: FileShelf) -> None:
        self.premises = premises
        self._ledger = ledger
        self._doors = doors
        self._shelf = shelf
        self._shelved: dict[str, tuple[str, ...]] = {}
        self._releases: dict[str, Release] = {}
        self._specs: dict[str, tuple[Version, AppSpec]] = {}
        self._views: dict[str, AppView] = {}
        self._viewers: list[Viewer] = []
        ledger.listen(self._forget_releases)

    @property
    def views(self) -> Mapping[str, AppView]:
        """Every instance the eSDK knows now."""
        return self._views

    def on_views(self, viewer: Viewer) -> None:
        """Have `viewer` called with all views whenever one comes, changes or goes."""
        self._viewers.append(viewer)

    def release(self, hash_: str) -> Release:
        """A release by its hash; Failed when the stored text no longer makes it."""
        found = self._releases.get(hash_)
        if found is None:
            stored = self._ledger.releases.get(hash_)
            if stored is None:
                raise Failed(
                    "release.missing", f"release {hash_[:12]} is not in the gateway's state", hint="deploy it again"
                )
            found = make_release(read(stored.text, stored.source), stored.digests, stored.files, stored.beside)
            self._releases[hash_] = found
        return found

    def keep(self, release: Release, source: str) -> StoredRelease:
        """The stored form of a release (with what was known of it)."""
        known = self._ledger.releases.get(release.hash)
        if known is not None:
            return known
        digests, files = dict(release.digests), dict(release.files)
        return StoredRelease(release.hash, release.text, source, digests, files, beside=release.beside)

    def failure(self, hash_: str) -> str:
        """Why a release is known bad; "" when nothing speaks against it."""
        stored = self._ledger.releases.get(hash_)
        return stored.failed if stored else ""

    def effective(self, version: Version) -> Effective:
        """The values of a version with where each came from; Mistakes when a layer does not fit the release."""
        release = self.release(version.release)
        return layered(release.manifest, version.cloud, version.site, release.files)

    def misfits(self, version: Version, site: LayerFrom) -> tuple[Problem, ...]:
        """Every mistake of another `site` layer over the version's release and cloud, where its document has it."""
        release = self.release(version.release)
        return layer_values(release.manifest, (LayerFrom("cloud", version.cloud), site), release.files)[1]

    def spec(self, desired: Desired) -> AppSpec:
        """The containers, networks and volumes of the wanted version."""
        version = desired.current
        if version is None:
            raise Failed("app.not_fetched", f"{desired.name} has no release yet")
        remembered = self._specs.get(desired.name)
        if remembered is not None and remembered[0] == version:
            return remembered[1]
        spec = self.spec_of(desired.name, version)
        self._specs[desired.name] = (version, spec)
        return spec

    def find(self, desired: Desired) -> AppSpec | None:
        """As `spec`; None where there is no version yet, or this agent cannot read it any more."""
        with contextlib.suppress(GatewayError):
            return self.spec(desired)
        return None

    def spec_of(self, instance: str, version: Version) -> AppSpec:
        """What any version of an instance is on this gateway."""
        return self.design(instance, self.release(version.release), self.effective(version), version.folder)

    def known(self, instance: str, version: Version | None) -> AppSpec | None:
        """As `spec_of`; None where there is no such version, or it no longer fits."""
        with contextlib.suppress(GatewayError, Mistakes):
            return self.spec_of(instance, version) if version is not None else None
        return None

    def design(self, instance: str, release: Release, effective: Effective, folder: str = "") -> AppSpec:
        """What `release` becomes on this gateway under the name `instance`; Mistakes when its values do not fit."""
        place = Place(
            gateway=self.premises.gateway,
            prefix=self.premises.prefix,
            app_dir=folder,
            esdk_dir=str(self._doors.folder(instance)),
            subnet="",
            policy=self.premises.policy,
            files_dir=str(self._shelf.folder(instance)),
            devices=self.premises.devices,
        )
        spec, problems = instantiate(release, Site(instance, effective), place)
        if spec is None:
            raise Mistakes(problems)
        return spec

    async def prepare(self, desired: Desired) -> None:
        """Put its files where its containers mount them, and open the eSDK's door or tell it what has changed."""
        spec = self.spec(desired)
        await self._shelve(desired, spec.files)
        view = spec.view()
        if self._views.get(desired.name) != view:
            await self._doors.open(view)
            self._views[desired.name] = view
            self._tell()

    async def dismantle(self, desired: Desired) -> None:
        """Close the door and forget the instance."""
        await self._doors.close(desired.name, remove=True)
        await self._shelf.clear(desired.name)
        self._shelved.pop(desired.name, None)
        self._specs.pop(desired.name, None)
        if self._views.pop(desired.name, None) is not None:
            self._tell()

    async def _shelve(self, desired: Desired, files: Sequence[PlacedFile]) -> None:
        """Looked at before every plan, so that a file somebody deleted comes back. On trial the old ones stay too."""
        tidy = desired.trial is Trial.PROVEN
        wanted = tuple(each.path for each in files)
        if files or (tidy and self._shelved.get(desired.name) != wanted):
            await self._shelf.put(desired.name, files, tidy=tidy)
        if tidy:
            self._shelved[desired.name] = wanted

    def _forget_releases(self, change: Change) -> None:
        for hash_ in change.releases_gone:
            self._releases.pop(hash_, None)

    def _tell(self) -> None:
        for viewer in self._viewers:
            viewer(self._views)


@lru_cache(maxsize=4)
def read(text: str, source: str) -> Manifest:
    """A manifest from its text; Mistakes with every problem. The last few are remembered: a deployment reads its own thrice."""
    manifest, problems = read_manifest(read_document(text, source))
    if manifest is None:
        raise Mistakes(problems)
    return manifest


def layered(manifest: Manifest, cloud: Layer, site: Layer, files: Mapping[str, str]) -> Effective:
    """The layers put together: the release's defaults < the cloud < the site."""
    effective, problems = layer_values(manifest, (LayerFrom("cloud", cloud), LayerFrom("site", site)), files)
    if problems:
        raise Mistakes(problems)
    return effective


def merged(
    layer: Layer,
    values: Mapping[str, object] | None,
    config: Mapping[str, object] | None,
    ports: Mapping[str, str] | None,
) -> Layer:
    """`layer` with what is given laid over it; None leaves a part as it is."""
    return replace(
        layer,
        values={**layer.values, **(values or {})},
        config=layer.config if config is None else config,
        ports={**layer.ports, **(ports or {})},
    )
