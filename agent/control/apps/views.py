"""What people and clouds are shown of instances: plain JSON, made from the last look."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from agent.control.apps.versions import list_versions
from agent.control.catalog import Catalog
from agent.control.converge.reconciler import Reconciler
from agent.control.inbox import Read
from agent.control.ledger import Ledger
from agent.control.watch.metering import Metering
from agent.domain.app import Version, phase
from agent.domain.command import JobState
from agent.domain.container import as_json
from agent.domain.params import Logs, MaybeInstance, Nothing
from agent.domain.planner import Observed
from agent.domain.release import Release
from agent.errors import GatewayError, NotFound
from agent.ports import Engine


class AppViews:
    """The reads about APPs; `table` is what the inbox takes."""

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        reconciler: Reconciler,
        engine: Engine,
        metering: Metering,
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._reconciler = reconciler
        self._engine = engine
        self._metering = metering
        self.table: dict[str, Read] = {
            "app.list": self.list_apps,
            "app.status": self.status,
            "app.logs": self.logs,
        }

    def summary(self, instance: str) -> dict[str, Any]:
        """One instance in the few words of a list."""
        desired = self._ledger.get(instance)
        observed = self._reconciler.observed.get(instance, Observed())
        looping = bool(observed.looping)
        job = self._ledger.open_job(instance)
        release = self._read(desired.current) if desired.current else None
        error = self._reconciler.errors.get(instance)
        return {
            "instance": instance,
            "app": release.name if release else "",
            "version": release.version if release else "",
            "release": desired.current.release if desired.current else "",
            "phase": phase(desired, job, observed.containers, looping).value,
            "desired": desired.wanted.value,
            "owner": desired.owner.value,
            "services": len(observed.containers),
            "message": str(error) if error else desired.hold or self._waiting(instance),
            "job": job.id if job else "",
        }

    def _read(self, version: Version) -> Release | None:
        """None for what this agent cannot read any more: its instance's message says why, and all others are told."""
        with contextlib.suppress(GatewayError):
            return self._catalog.release(version.release)
        return None

    def report(self, instance: str) -> dict[str, Any]:
        """The same as `detail` for a link that costs money: what is used is renewed only when it says something new."""
        return self.detail(instance) | {"use": dict(self._metering.told(instance))}

    def _waiting(self, instance: str) -> str:
        """What waits for its time, its window or its credentials."""
        idle = (JobState.WAITING, JobState.CREDENTIALS_NEEDED)
        waiting = [j for j in self._ledger.open_jobs(instance) if j.state in idle and j.message]
        return "; ".join(f"{job.kind} {job.state}: {job.message}" for job in waiting)

    def detail(self, instance: str) -> dict[str, Any]:
        """Everything about one instance: services, what they use, values with their source, grants, limits, versions."""
        desired = self._ledger.get(instance)
        body = self.summary(instance)
        observed = self._reconciler.observed.get(instance, Observed())
        ended = self._reconciler.endings(observed)
        body["services"] = [{**_service(as_json(c)), "ended": ended.get(c.service, "")} for c in observed.containers]
        body["use"] = self._metering.use(instance)
        spec = self._catalog.find(desired)
        if desired.current is not None and spec is not None:
            body["values"] = self._catalog.effective(desired.current).as_dict()
            body["grants"] = as_json(spec.grants)
            body["limits"] = {c.service: as_json(c.live) for c in spec.containers}
            body["images"] = {c.service: c.image for c in spec.containers}
        if desired.current is not None:
            body["versions"] = list_versions(desired, self._catalog)
        return body

    async def list_apps(self, params: Nothing) -> Any:
        """All instances."""
        return [self.summary(name) for name in sorted(self._ledger.desired)]

    async def status(self, params: MaybeInstance) -> Any:
        """One instance in full, or all."""
        if params.instance is not None:
            return self.detail(params.instance)
        return [self.detail(name) for name in sorted(self._ledger.desired)]

    async def logs(self, params: Logs) -> Any:
        """The last lines of one service, or of all."""
        self._ledger.get(params.instance)
        lines: dict[str, list[str]] = {}
        for container in await self._engine.containers(params.instance):
            if params.service in (None, container.service):
                lines.setdefault(container.service, []).extend(await self._engine.logs(container.id, params.tail))
        if params.service is not None and params.service not in lines:
            raise NotFound("app.no_service", f"{params.instance} has no container of service '{params.service}'")
        return lines


def _service(container: Mapping[str, Any]) -> dict[str, Any]:
    kept = (
        "service",
        "id",
        "name",
        "state",
        "health",
        "exit_code",
        "oom_killed",
        "started_at",
        "restart_count",
        "live",
    )
    return {key: container[key] for key in kept}
