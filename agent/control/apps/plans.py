"""What a deployment would do, told before it is ordered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.control.apps.deploy import Deployer
from agent.control.catalog import Catalog, read
from agent.control.converge.reconciler import Reconciler
from agent.control.inbox import Read
from agent.control.jobs.timetable import Timetable
from agent.control.ledger import Ledger
from agent.domain.command import Job, JobState, Origin
from agent.domain.container import as_json
from agent.domain.forecast import foresee
from agent.domain.params import Deploy
from agent.domain.planner import Observed


class AppPlans:
    """The read `app.plan`; `table` is what the inbox takes."""

    def __init__(
        self, ledger: Ledger, catalog: Catalog, reconciler: Reconciler, deployer: Deployer, timetable: Timetable
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._reconciler = reconciler
        self._deployer = deployer
        self._timetable = timetable
        self.table: dict[str, Read] = {"app.plan": self.plan}

    async def plan(self, params: Deploy) -> Any:
        """What an install or upgrade would do, step by step, trial and gate with it, with tags not yet resolved.

        `cloud_waits` is until when it would wait for an update window if the cloud ordered it now; "" where it would not.
        `owner` is who else than the box must let it be taken over; "" where nobody must.
        """
        manifest = read(params.manifest, params.instance)
        desired = self._ledger.desired.get(params.instance)
        job = Job(
            "plan", "plan", params.instance, "", JobState.WAITING, params=params.model_dump(), origin=Origin.LOCAL
        )
        ordered = self._timetable.wait(replace(job, kind="upgrade", origin=Origin.CLOUD))
        pins = self._pins(manifest.images)
        release, effective, spec = self._deployer.draft(job, manifest, desired, pins)
        observed = self._reconciler.observed.get(params.instance, Observed())
        after = self._deployer.foresee(job, release, spec, desired)
        before = self._catalog.known(params.instance, after.previous)
        return {
            "instance": params.instance,
            "exists": desired is not None,
            "version": manifest.version,
            "images": pins,
            "values": effective.as_dict(),
            "grants": as_json(spec.grants),
            "owner": desired.owner.value if desired is not None and desired.owner is not Origin.LOCAL else "",
            "cloud_waits": ordered.why if ordered else "",
            "steps": list(foresee(after, spec, observed, before)),
            "warnings": [p.as_dict() for p in manifest.warnings],
        }

    def _pins(self, images: tuple[str, ...]) -> dict[str, str]:
        """Digests that releases on this gateway already gave to these references."""
        known = {ref: pin for stored in self._ledger.releases.values() for ref, pin in stored.digests.items()}
        return {image: known.get(image, image) for image in images}
