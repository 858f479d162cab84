"""Which of two versions of an APP that run side by side is the one that the gateway asks: the proven one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.control.catalog import Catalog
from agent.control.ledger import Ledger
from agent.domain.app import Desired
from agent.domain.journal import Change
from agent.domain.planner import Observed


class Voice:
    """`observed` is what was last seen of each instance; `review` is told of each about which something was decided."""

    def __init__(
        self, ledger: Ledger, catalog: Catalog, observed: Mapping[str, Observed], review: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._observed = observed
        self._review = review
        ledger.listen(self._on_change)

    def waits(self, instance: str, container_id: str) -> bool:
        """Whether another version than that of this container is the proven one, and serves. One that is gone has no turn."""
        desired, seen = self._ledger.desired.get(instance), self._observed.get(instance)
        if not container_id or desired is None or seen is None:
            return False
        specs = {each.id: each.spec for each in seen.containers}
        if container_id not in specs:
            return True
        proven, other = self._versions(desired)
        if specs[container_id] in proven:
            return False
        # What both versions have in common says nothing about which of them serves.
        return any(each.serving and each.spec in proven - other for each in seen.containers)

    def _on_change(self, change: Change) -> None:
        for desired in change.desired:
            self._review(desired.name)

    def _versions(self, desired: Desired) -> tuple[set[str], set[str]]:
        """What the containers of the proven version are made by, and those of one on trial."""
        wanted = self._catalog.find(desired)
        current = {each.spec_hash for each in wanted.containers} if wanted is not None else set()
        if not desired.on_trial:
            return current, set()
        before = self._catalog.known(desired.name, desired.previous)
        return {each.spec_hash for each in before.containers} if before is not None else set(), current
