"""Brings a release's images here, checks what it would become, and makes it the wanted version."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from agent.control.apps.facts import FactBook, Look
from agent.control.catalog import Catalog, layered, merged, read
from agent.control.images.stock import ImageStock, lacking_bytes
from agent.control.jobs.runner import Told
from agent.control.jobs.vault import Vault
from agent.control.ledger import Ledger
from agent.domain import transition
from agent.domain.admission import HUB, admit, admit_images, admit_return, allowed_registry, full_name
from agent.domain.app import Desired, Layer, Version, Wanted
from agent.domain.command import Job, JobState, Origin
from agent.domain.container import ImageInfo
from agent.domain.dockerfile import BuildHow
from agent.domain.document import Problem
from agent.domain.instantiate import AppSpec
from agent.domain.journal import Change
from agent.domain.manifest_model import Build, Manifest
from agent.domain.params import Deploy, Params
from agent.domain.release import Release, make_release
from agent.domain.values import Effective, LayerFrom
from agent.errors import Busy, Conflict, GatewayError, Refused
from agent.ports import Bundles

NO_DISK = "admission.disk"
"""Refused for want of disk: what nobody needs goes first."""


def refuse(problems: tuple[Problem, ...]) -> None:
    """Raise what admission found, if anything."""
    if problems:
        first = problems[0]
        numbers: dict[str, Any] = dict(first.numbers)
        raise Refused(first.code, str(first), problems=[p.as_dict() for p in problems], **numbers)


class Deployer:
    """The work of the job kinds install, upgrade and configure, up to the point where the reconciler takes over."""

    def __init__(
        self, ledger: Ledger, catalog: Catalog, stock: ImageStock, vault: Vault, facts: FactBook, bundles: Bundles
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._stock = stock
        self._vault = vault
        self._facts = facts
        self._bundles = bundles
        self._around = Look()
        self.site_layers: Mapping[tuple[str, str], Layer] = {}
        """A site's values that were there first, by instance and the name of the APP that they are for."""
        self._here: dict[str, str] = {}

    async def learn(self, params: Deploy) -> None:
        """Find out what the machine has left, and which images of a manifest were built or loaded here: no registry is asked."""
        manifest = read(params.manifest, params.instance)
        publishes = any(service.ports for service in manifest.body.services)
        around = await self._facts.look_around(listening=publishes)
        # Another command, between its own `learn` and its `draft`, may count on who was seen listening.
        listening = around.room.listening if publishes else self._around.room.listening
        self._around = replace(around, room=replace(around.room, listening=listening))
        for image in manifest.images:
            found = None
            if full_name(image).startswith(f"{HUB}/") and not allowed_registry(image, self._catalog.premises.policy):
                with contextlib.suppress(GatewayError):
                    found = await self._stock.find(image)
            if found is not None and not found.digests:
                self._here[image] = found.id
            else:
                self._here.pop(image, None)

    def app_of(self, instance: str) -> str:
        """The name of the APP that an instance runs; "" when there is none yet, or its release cannot be read."""
        desired = self._ledger.desired.get(instance)
        with contextlib.suppress(GatewayError):
            return self._catalog.release(desired.current.release).name if desired and desired.current else ""
        return ""

    def misfits(self, instance: str, site: LayerFrom) -> tuple[Problem, ...]:
        """What of a site's layer does not fit what the instance runs: every mistake, each where it stands."""
        desired = self._ledger.desired.get(instance)
        return self._catalog.misfits(desired.current, site) if desired and desired.current else ()

    def layers(self, job: Job, app: str, desired: Desired | None) -> tuple[Layer, Layer]:
        """The cloud's and the site's layer after this job: its own values go to the layer of where it came from."""
        base = desired.current if desired else None
        if base is None:
            base = Version("", site=self.site_layers.get((job.instance, app), Layer()))
        values, config, ports = job.params.get("values"), job.params.get("config"), job.params.get("ports")
        if job.params.get("exact"):
            base = replace(base, cloud=replace(base.cloud, values={}) if job.origin is Origin.CLOUD else base.cloud)
            base = replace(base, site=replace(base.site, values={}) if job.origin is Origin.LOCAL else base.site)
        if job.origin is Origin.CLOUD:
            return merged(base.cloud, values, config, ports), base.site
        if job.origin is Origin.FILE:
            return base.cloud, merged(Layer(), values, config, ports)
        return base.cloud, merged(base.site, values, config, ports)

    def draft(
        self, job: Job, manifest: Manifest, desired: Desired | None, pins: Mapping[str, str] | None = None
    ) -> tuple[Release, Effective, AppSpec]:
        """What a job's manifest would become, known before any image is here. Mistakes or Refused otherwise.

        `pins` are digests known for some of its images; the others stand as written.
        """
        policy = self._catalog.premises.policy
        refuse(admit_images(manifest, policy, self._here))
        pins = pins or job.params.get("pins") or {}
        known = {image: self._here.get(image) or pins.get(image, image) for image in manifest.images}
        release = self._release(job, manifest, known)
        effective = layered(manifest, *self.layers(job, manifest.name, desired), release.files)
        folder, _ = self._folder(job, desired)
        spec = self._catalog.design(job.instance, release, effective, folder)
        # A change of values was not preceded by `learn`; it is held to what is left when it is adopted.
        look = Look() if job.kind == "configure" else self._around
        refuse(admit(manifest, spec, policy, self._facts.facts(job.instance, look)))
        self._refuse_known_bad(job, release)
        return release, effective, spec

    def check_return(self, instance: str, version: Version) -> None:
        """Refused when others hold by now what a kept version of an instance would need again."""
        spec = self._catalog.spec_of(instance, version)
        facts = self._facts.facts(instance, Look())
        manifest = self._catalog.release(version.release).manifest
        refuse(admit_return(manifest, spec, self._catalog.premises.policy, facts))

    async def make_room(self, params: Params, refusal: Refused) -> bool:
        """What nobody needs goes before a deployment is refused for want of disk, but not what was pulled for it."""
        images = read(params.manifest, params.instance).images if isinstance(params, Deploy) else ()
        spare: set[str] = set()
        for image in images:
            with contextlib.suppress(GatewayError):
                found = await self._stock.find(image)
                spare |= {found.id} if found is not None else set()
        return await self._stock.make_room(spare, lacking_bytes(refusal))

    async def deploy(self, job: Job, told: Told) -> None:
        """Pin, fetch, check again with what is now known, adopt."""
        # Written while the engine is asked: the ledger keeps it in order before whatever comes of that.
        telling = asyncio.create_task(self._ledger.move_job(job.id, JobState.DOWNLOADING, "asking for the images"))
        try:
            release, found = await self._fetch(job, told)
        finally:
            await telling
        await self._adopt(job, release, found)

    async def _fetch(self, job: Job, told: Told) -> tuple[Release, dict[str, ImageInfo]]:
        """The release with its images pinned, and those images, which are here now. Known bad: nothing is fetched."""
        manifest = read(str(job.params["manifest"]), str(job.params.get("source", job.instance)))
        found: dict[str, ImageInfo] = {}
        pins = job.params.get("pins") or {}
        bundle = str(job.params.get("bundle") or "")
        if bundle:
            key, folder = str(job.params.get("key") or ""), str(job.params["folder"])
            await self._bundles.take(bundle, key, folder, PullProgress(told, 0, 1, bundle))
        logins = {ref: self._vault.login(job.id, ref) for ref in manifest.images if ref not in manifest.builds}
        digests = {ref: pins.get(ref) or await self._stock.pin(ref, login) for ref, login in logins.items()}
        if not manifest.builds:
            self._refuse_known_bad(job, self._release(job, manifest, digests))
        for number, ref in enumerate(manifest.images):
            progress = PullProgress(told, number, len(manifest.images), ref)
            build = manifest.builds.get(ref)
            if build is not None:
                own, _ = self._folder(job, self._ledger.get(job.instance))
                folder = await asyncio.to_thread(_build_folder, own, build)
                how = BuildHow(build.dockerfile, dict(build.args), build.target)
                image = await self._stock.build(job, folder, ref, how, progress, partial(self._vault.login, job.id))
                digests[ref], found[image.id] = image.id, image
                continue
            pinned = digests[ref]
            found[pinned] = await self._stock.bring(job, pinned, progress, logins[ref])
        return self._release(job, manifest, digests), found

    def _release(self, job: Job, manifest: Manifest, digests: Mapping[str, str]) -> Release:
        """What a job's manifest and files make, and those of the folder that they will lie in (see `_folder`)."""
        _, beside = self._folder(job, self._ledger.desired.get(job.instance))
        return make_release(manifest, digests, dict(job.params.get("files") or {}), beside)

    def _refuse_known_bad(self, job: Job, release: Release) -> None:
        """What failed its health gate here is not tried again by itself; other values for what runs are."""
        reason = self._catalog.failure(release.hash)
        if reason and job.kind != "configure" and not job.params.get("force"):
            raise Conflict(
                "release.known_bad",
                f"release {release.hash[:12]} of {job.instance} failed before: {reason}",
                hint="deploy a corrected version, or force this one",
            )

    async def configure(self, job: Job, told: Told) -> None:
        """New values for the release that runs."""
        desired = self._ledger.get(job.instance)
        if desired.current is None:
            raise Conflict("app.not_fetched", f"{job.instance} has no release yet", hint="wait for its installation")
        await self._adopt(job, self._catalog.release(desired.current.release), {})

    async def _adopt(self, job: Job, release: Release, images: Mapping[str, ImageInfo]) -> None:
        try:
            await self._adopt_now(job, release, images)
        except Refused as error:
            if error.code != NO_DISK or not await self._stock.make_room(least_bytes=lacking_bytes(error)):
                raise
            await self._adopt_now(job, release, images)

    async def _adopt_now(self, job: Job, release: Release, images: Mapping[str, ImageInfo]) -> None:
        desired = self._ledger.get(job.instance)
        cloud, site = self.layers(job, release.name, desired)
        effective = layered(release.manifest, cloud, site, release.files)
        folder, beside = self._folder(job, desired)
        spec = self._catalog.design(job.instance, release, effective, folder)
        look = await self._facts.look(spec, images)
        stored = self._catalog.keep(release, str(job.params.get("source", job.instance)))
        self._refuse_known_bad(job, release)
        version = Version(release.hash, cloud, site, folder, beside)

        def decision() -> Change:
            current, open_job = self._ledger.desired.get(job.instance), self._ledger.jobs[job.id]
            if current is None or open_job.state.final:
                return Change()
            if current.job != job.id and self._ledger.open_job(job.instance) is not None:
                raise Busy("job.turn", f"another job of {job.instance} is under way", hint="this one follows it")
            if current.current != desired.current:
                # A verdict fell meanwhile: values and release were worked out for a version that is no longer wanted.
                raise Busy(
                    "job.overtaken", f"{job.instance} has gone to another version", hint="it is worked out again"
                )
            # Here and not before: what others hold must be what they hold when this is written.
            facts = self._facts.facts(job.instance, look)
            refuse(admit(release.manifest, spec, self._catalog.premises.policy, facts))
            after, moved = self._next(current, open_job, version, spec)
            return Change(desired=(after,), jobs=(moved,), releases=(replace(stored, failed=""),))

        await self._ledger.decide(decision)

    def _next(self, current: Desired, job: Job, version: Version, spec: AppSpec) -> tuple[Desired, Job]:
        """What adopting `version` makes of an instance and its job: on trial where any container changes."""
        now = self._catalog.find(current)
        changes = now is None or now.containers != spec.containers
        keep = self._catalog.premises.policy.keep_versions
        return transition.adopt(current, job, version, needs_trial=changes, keep=keep)

    def foresee(self, job: Job, release: Release, spec: AppSpec, desired: Desired | None) -> Desired:
        """What the instance would be wanted to be once `job` has adopted what `draft` told; `desired` is it now."""
        version = Version(release.hash, *self.layers(job, release.name, desired), *self._folder(job, desired))
        return self._next(desired or Desired(job.instance, job.origin, Wanted.RUNNING), job, version, spec)[0]

    def _folder(self, job: Job, desired: Desired | None) -> tuple[str, str]:
        """Where the APP's own files are, and their digest: where this job brought them, else where the version before has them."""
        if job.params.get("folder"):
            return str(job.params["folder"]), str(job.params.get("beside") or "")
        base = desired.current if desired else None
        if base is None:
            return "", ""
        # Versions were written without the digest while only releases held it.
        stored = self._ledger.releases.get(base.release)
        return base.folder, base.beside or (stored.beside if stored else "")


def _build_folder(app_folder: str, build: Build) -> str:
    """The folder a service's image is built from, inside the APP's own: a link out of that is Refused."""
    root = os.path.realpath(app_folder)
    folder = os.path.realpath(f"{root}/{build.context}")
    if folder != root and not folder.startswith(root + os.sep):
        raise Refused(
            "admission.build_context",
            f"{build.context} leads out of the APP's folder",
            hint="put the files themselves there",
        )
    return folder


class PullProgress:
    """Turns bytes of one image into percent of all."""

    def __init__(self, told: Told, number: int, count: int, ref: str) -> None:
        self._told = told
        self._number = number
        self._count = count
        self._ref = ref

    def __call__(self, done: int, total: int, what: str) -> None:
        part = done / total if total else 0.0
        percent = int(100 * (self._number + part) / self._count)
        size = f" {done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else ""
        self._told(percent, f"{self._ref}:{size} {what}".strip(), done, total)
