"""A bundle by reference, ``{url, sha256}``: fetched in a job of its own, then deployed as any bundle.

The query of a URL may be a signature that opens it: it is a one-time login, held in memory and never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from agent.control.bundles.work import BundleWork
from agent.control.images.stock import ImageStock
from agent.control.inbox import Decide
from agent.control.jobs.maker import NO_TIME, REGISTRIES, JobMaker, accepted
from agent.control.jobs.runner import Told, Work
from agent.control.jobs.vault import Vault
from agent.control.ledger import Ledger
from agent.domain.command import Command, Job, JobState, Reply
from agent.domain.journal import Change
from agent.domain.params import Fetch, Import
from agent.errors import Malformed, Unauthorised
from agent.ports import Bundles

KIND = "bundle.fetch"


class BundleFetch:
    """`decisions` begin a job, `kinds` is its work: it ends with the deployment's job begun, in one write."""

    def __init__(
        self, ledger: Ledger, maker: JobMaker, vault: Vault, stock: ImageStock, bundles: Bundles, work: BundleWork
    ) -> None:
        self._ledger = ledger
        self._maker = maker
        self._vault = vault
        self._stock = stock
        self._bundles = bundles
        self._work = work
        self.decisions: Mapping[str, Decide] = {KIND: self.begin}
        self.kinds: Mapping[str, Work] = {KIND: self.fetch}

    def begin(self, command: Command, params: Fetch) -> tuple[Change, Reply]:
        """Refused where the policy's registries do not hold the place the file is at."""
        try:
            place = urlsplit(params.url)
        except ValueError:
            raise Malformed("command.params", "bundle.fetch: params.url is no URL", field="params.url") from None
        self._stock.must_be_allowed(f"{place.netloc}{place.path}")
        given = {**params.model_dump(exclude=NO_TIME), "for": params.instance, "who": command.who}
        given["url"] = place._replace(query="", fragment="").geturl()
        if place.query:
            given[REGISTRIES] = [place.netloc]
        # It changes no instance yet: others' work on that goes on meanwhile.
        job = replace(self._maker.make(command, KIND, params, given), instance="")
        again = self._maker.take_up(command, job, self._ledger.open_jobs(""), {}, place.query)
        if again is not None:
            return again
        self._maker.keep_logins(job, {}, place.query)
        job = self._maker.held(job) or job
        return Change(jobs=(job,)), accepted(command, job)

    async def fetch(self, job: Job, told: Told) -> None:
        """Bring the file here and begin the deployment of what it holds."""
        given = dict(job.params)
        await self._ledger.move_job(job.id, JobState.DOWNLOADING, "asking for the bundle")
        url, query = str(given.pop("url")), self._vault.query(job.id)
        if given.pop(REGISTRIES, ()) and not query:
            raise Unauthorised(
                "bundle.url_lost", f"the query of {url} went with the agent's restart", hint="send it again"
            )
        url += f"?{query}" if query else ""
        path = await self._bundles.fetch(url, str(given.pop("sha256")), partial(_tell, told))
        who = str(given.pop("who"))
        params = Import(path=path, instance=str(given.pop("for")), **given)
        await self._work.look(params)
        command = Command(f"{job.command_id}/deploy", "bundle.import", {}, job.origin, who=who)

        def decision() -> Change:
            current = self._ledger.jobs[job.id]
            if current.state.final:
                return Change()
            change, reply = self._work.begin(command, params)
            done = replace(current, state=JobState.DONE, message=reply.msg, progress=100)
            return replace(change, jobs=(*change.jobs, done))

        await self._ledger.decide(decision)


def _tell(told: Told, done: int, total: int, what: str) -> None:
    told(int(100 * done / total) if total else 0, what, done, total)
