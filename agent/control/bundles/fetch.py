"""A bundle by reference, ``{url, sha256}``: an ordinary installation or upgrade whose job brings the bundle first.

The query of a URL may be a signature that opens it: it is a one-time login, held in memory and never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from agent.control.apps.decisions import AppDecisions
from agent.control.apps.deploy import Deployer
from agent.control.bundles.work import BundleWork
from agent.control.catalog import read
from agent.control.images.stock import ImageStock
from agent.control.inbox import Decide
from agent.control.jobs.maker import NO_TIME, REGISTRIES, JobMaker
from agent.control.jobs.runner import Told
from agent.control.jobs.vault import Vault
from agent.control.ledger import Ledger
from agent.domain.command import Command, Job, JobState, Reply
from agent.domain.journal import Change
from agent.domain.params import Fetch, Import
from agent.errors import GatewayError, Malformed, Unauthorised
from agent.ports import Bundles

URL = "url"
"""A job with this among its parameters has not brought its bundle yet."""


class FetchOrders:
    """`decisions` begin a job of the instance: from then on whatever is ordered for that meets it as any deployment."""

    def __init__(self, ledger: Ledger, maker: JobMaker, stock: ImageStock, apps: AppDecisions) -> None:
        self._ledger = ledger
        self._maker = maker
        self._stock = stock
        self._apps = apps
        self.decisions: Mapping[str, Decide] = {"bundle.fetch": self.begin}

    def begin(self, command: Command, params: Fetch) -> tuple[Change, Reply]:
        """Refused where the policy's registries do not hold the place the file is at."""
        try:
            place = urlsplit(params.url)
        except ValueError:
            raise Malformed("command.params", "bundle.fetch: params.url is no URL", field="params.url") from None
        self._stock.must_be_allowed(f"{place.netloc}{place.path}")
        given = params.model_dump(exclude=NO_TIME)
        given[URL] = place._replace(query="", fragment="").geturl()
        if place.query:
            given[REGISTRIES] = [place.netloc]
        kind = "upgrade" if params.instance in self._ledger.desired else "install"
        job = self._maker.make(command, kind, params, given)
        for lost in self._ledger.open_jobs(params.instance):
            # An installation made its instance, so that the same command is an upgrade now.
            same = (lost,) if URL in lost.params else ()
            again = self._maker.take_up(command, replace(job, kind=lost.kind), same, {}, place.query)
            if again is not None:
                return again
        self._maker.keep_logins(job, {}, place.query)
        return self._apps.begin(command, job)


class FetchWork:
    """The work of installations and upgrades: what comes by a bundle that is not here yet is brought first."""

    def __init__(self, ledger: Ledger, vault: Vault, bundles: Bundles, work: BundleWork, deployer: Deployer) -> None:
        self._ledger = ledger
        self._vault = vault
        self._bundles = bundles
        self._work = work
        self._deployer = deployer

    async def deploy(self, job: Job, told: Told) -> None:
        """Bring the bundle here, check what it holds as a command with it would be, and deploy that."""
        if URL in job.params:
            await self._bring(job, told)
            job = self._ledger.jobs[job.id]
        if not job.state.final:
            await self._deployer.deploy(job, told)

    async def _bring(self, job: Job, told: Told) -> None:
        """With the bundle here, the job's parameters become those of a deployment from it."""
        given = dict(job.params)
        await self._ledger.move_job(job.id, JobState.DOWNLOADING, "asking for the bundle")
        url = place = str(given.pop(URL))
        query = self._vault.query(job.id)
        if given.pop(REGISTRIES, ()) and not query:
            raise Unauthorised(
                "bundle.url_lost", f"the query of {url} went with the agent's restart", hint="send it again"
            )
        url += f"?{query}" if query else ""
        path = await self._bundles.fetch(url, str(given.pop("sha256")), partial(_tell, told))
        params = Import(path=path, instance=job.instance, **given)
        try:
            await self._work.look(params)
        except GatewayError as error:  # where it lies here is nobody's business: it came from there
            error.message = error.message.replace(path, place)
            raise
        deploy = self._work.take(params)

        def decision() -> Change:
            current = self._ledger.jobs[job.id]
            if current.state.final:
                return Change()
            brought = replace(current, params=deploy.model_dump(exclude=NO_TIME))
            desired = self._ledger.desired.get(job.instance)
            self._deployer.draft(brought, read(deploy.manifest, job.instance), desired)
            return Change(jobs=(brought,))

        await self._ledger.decide(decision)


def _tell(told: Told, done: int, total: int, what: str) -> None:
    told(int(100 * done / total) if total else 0, what, done, total)
