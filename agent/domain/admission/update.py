"""`start-first` runs two versions at once, which not every APP can."""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.manifest_model import Strategy

_STRATEGY = ("x-ec", "update", "strategy")
_HINT = "write strategy: stop-first"


def _start_first(case: Case) -> Iterator[Found]:
    """Two at once would fight for a port or tell of the same points, and of two writers on one volume none could be rolled back."""
    if case.spec.update.strategy is not Strategy.START_FIRST:
        return
    for container in case.spec.containers:
        for port in container.ports:
            words = f"start-first with published port {port.host_port}/{port.protocol}: only one version can hold it"
            yield Found(_STRATEGY, words, _HINT)
    for role, name in ((role, name) for role, name in case.spec.ports if name not in case.facts.shared_ports):
        yield Found(_STRATEGY, f"start-first with port '{name}' of role {role}: only one version can hold it", _HINT)
    for name in case.spec.update.rollback_volumes:
        words = f"start-first with volume {name} to roll back: both versions would write to it"
        yield Found(_STRATEGY, words, _HINT)

    for pattern in case.spec.grants.points_publish:
        # Rules would act on what a version measures that has not proved itself.
        yield Found(_STRATEGY, f"start-first with points of its own ({pattern}): only one version can own them", _HINT)


RULES = (
    Rule(
        "admission.start_first",
        "start-first with points of its own, published or exclusive ports, or volumes to roll back",
        _start_first,
    ),
)
