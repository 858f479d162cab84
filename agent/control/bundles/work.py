"""Commands about offline bundles: a bundle takes the same way as any deployment, only its images come along with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agent.control.apps.decisions import AppDecisions
from agent.control.apps.deploy import Deployer
from agent.control.catalog import read
from agent.control.inbox import Decide, Prepare, Read
from agent.control.ledger import Ledger
from agent.domain.bundle import GONE
from agent.domain.command import Command, Reply
from agent.domain.journal import Change
from agent.domain.manifest_model import Manifest
from agent.domain.params import FromBundle, Import, OnDisk
from agent.domain.platform import Platform
from agent.errors import Failed, Malformed, Refused, Unreachable
from agent.ports import BundleHead, Bundles

HEADS_MOST = 16


class BundleWork:
    """`prepares` reads a bundle's head, `decisions` begin the deployment of what it holds, `reads` show it.

    `platform` is the engine's; None before it was ever reached.
    """

    def __init__(
        self,
        ledger: Ledger,
        apps: AppDecisions,
        deployer: Deployer,
        bundles: Bundles,
        platform: Callable[[], Platform | None],
    ) -> None:
        self._ledger = ledger
        self._apps = apps
        self._deployer = deployer
        self._bundles = bundles
        self._platform = platform
        self._heads: dict[str, BundleHead] = {}
        self._tidying: asyncio.Task[None] | None = None
        ledger.listen(self._on_change)
        self.prepares: dict[str, Prepare] = {"bundle.import": self.look}
        self.decisions: dict[str, Decide] = {"bundle.import": self.begin}
        self.reads: dict[str, Read] = {"bundle.show": self.show}

    async def look(self, params: OnDisk) -> None:
        """Read the bundle's head, for the decision that follows."""
        self._heads.pop(params.path, None)
        self._heads[params.path] = head = await self._look(params.path, to_take=True)
        here = self._platform()
        architecture, _, variant = head.architecture.partition("/")
        if here is not None and here.surely_fails(Platform(architecture, variant)):
            raise Refused(
                "admission.architecture",
                f"the bundle {params.path} is made for {head.architecture}, this gateway is {here}",
                hint=f"make it with --arch {here}",
            )
        while len(self._heads) > HEADS_MOST:
            self._heads.pop(next(iter(self._heads)))
        if isinstance(params, Import):
            deploy = self._deploy(params)
            _must_bring_all(head, read(deploy.manifest, deploy.instance))
            await self._deployer.learn(deploy)

    def begin(self, command: Command, params: Import) -> tuple[Change, Reply]:
        """Install the APP in the bundle, or upgrade the instance of that name."""
        deploy = self.take(params)
        decide = self._apps.upgrade if deploy.instance in self._ledger.desired else self._apps.install
        return decide(command, deploy)

    def take(self, params: Import) -> FromBundle:
        """The deployment of what the bundle holds, once after each `look`."""
        deploy = self._deploy(params)
        self._heads.pop(params.path)
        return deploy

    def _deploy(self, params: Import) -> FromBundle:
        head = self._heads.get(params.path)
        if head is None:
            raise Failed("bundle.not_read", f"the bundle {params.path} was not read", hint="import it again")
        return FromBundle(
            instance=params.instance or head.name,
            manifest=head.manifest,
            files=dict(head.files),
            folder=head.folder,
            bundle=head.path,
            key=head.key,
            beside=head.beside,
            pins=dict(head.images),
            **params.model_dump(exclude={"path", "instance"}),
        )

    async def show(self, params: OnDisk) -> Any:
        """What a bundle holds."""
        head = await self._look(params.path)
        return {
            "name": head.name,
            "version": head.version,
            "architecture": head.architecture,
            "images": dict(head.images),
            "files": sorted(head.files),
            "size_bytes": head.size_bytes,
            "manifest": head.manifest,
        }

    async def _look(self, path: str, *, to_take: bool = False) -> BundleHead:
        """Who names a file that is not there, or cannot be read, is told so: only a job waits for it."""
        try:
            return await self._bundles.look(path, to_take=to_take)
        except Unreachable as error:
            kind = Malformed if error.code == GONE else Failed
            raise kind(error.code, error.message, hint=error.hint) from None

    async def stop(self) -> None:
        """Let go of what is being tidied up; the next start does it again."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)

    def _on_change(self, change: Change) -> None:
        """What an instance's end, or that of a job with a bundle, leaves behind."""
        over = any(job.state.final and job.params.get("bundle") for job in change.jobs)
        if (change.gone or over) and (self._tidying is None or self._tidying.done()):
            self._tidying = asyncio.create_task(self.tidy(), name="bundles-tidy")

    async def tidy(self) -> None:
        """Remove the files of bundles that no version and no open job needs any more."""
        await self._bundles.keep(self._needed)

    def _needed(self) -> set[str]:
        versions = {v.folder for d in self._ledger.desired.values() for v in d.versions}
        jobs = {str(j.params.get("folder", "")) for j in self._ledger.jobs.values() if not j.state.final}
        return versions | jobs


def _must_bring_all(head: BundleHead, manifest: Manifest) -> None:
    """Malformed where the manifest names an image that is neither in the bundle nor built from its files."""
    missing = sorted(set(manifest.images) - head.images.keys() - manifest.builds.keys())
    if missing:
        raise Malformed(
            "bundle.incomplete",
            f"{head.path}: its manifest names the image {missing[0]}, which is not in it",
            hint="make it again with `ecgw bundle create`",
        )
