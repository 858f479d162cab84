"""After a boot, or after an engine that stopped everything: whether services came up in order, and how to mend it.

The engine starts all of them at once and knows no `depends_on`. Pure: what was started when is the engine's own word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from agent.domain.container import ContainerSpec, ContainerState
from agent.domain.instantiate import AppSpec
from agent.domain.planner import awaits
from agent.domain.steps import StartContainer, Step, StopContainer

NS = 1_000_000_000
_FIRST_PROBE = 0.9
"""A probe's first answer comes an interval after the start, give or take how exact the engine's timers are."""


def read_started(text: str) -> int | None:
    """The engine's ``2026-11-24T07:46:58.006112512Z`` (or with an offset) as epoch ns; None when it never started."""
    whole, _, rest = text.partition(".")
    digits = "".join(c for c in rest[:9] if c.isdigit()) if rest else ""
    zone = rest[len(digits) :] if rest else ""
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError:
        return None
    if moment.tzinfo is None or moment.year < 1970:
        return None
    return round(moment.timestamp()) * NS + int(digits.ljust(9, "0") or 0)


def mend_order(
    spec: AppSpec, containers: Iterable[ContainerState], back: frozenset[str], looping: frozenset[str] = frozenset()
) -> tuple[Step, ...]:
    """Stop, in reverse, what came up before what it depends on, and start it again in order; empty when all is well.

    `back` are the ids of the containers that came back by themselves; what was started otherwise is let be. Services in
    `looping` are being backed off, and nobody waits for them here.
    """
    wanted = {each.service: each for each in spec.containers}
    serving = {
        c.service: c for c in containers if c.serving and c.service in wanted and c.spec == wanted[c.service].spec_hash
    }
    early = _early(spec, wanted, serving, back, looping)
    steps: list[Step] = [
        StopContainer(serving[each.service].id, each.service, each.stop_grace_s)
        for each in reversed(spec.containers)
        if each.service in early
    ]
    for each in spec.containers:
        if each.service in early:
            steps += awaits(spec, each.service)
            steps.append(StartContainer(each.service, each.spec_hash))
    return tuple(steps)


def _early(
    spec: AppSpec,
    wanted: Mapping[str, ContainerSpec],
    serving: Mapping[str, ContainerState],
    back: frozenset[str],
    looping: frozenset[str],
) -> frozenset[str]:
    """The services to restart, with all that depend on them in turn."""
    early: set[str] = set()
    for each in spec.containers:
        mine = serving.get(each.service)
        if mine is None or each.service in looping:
            continue
        for needed, condition in spec.depends_on(each.service):
            if needed in early:
                early.add(each.service)
            elif condition == "completed" or needed in looping or mine.id not in back:
                continue
            elif needed not in serving or not _in_order(serving[needed], mine, condition, wanted[needed]):
                early.add(each.service)
    return frozenset(early)


def _in_order(needed: ContainerState, mine: ContainerState, condition: str, spec: ContainerSpec) -> bool:
    first, second = read_started(needed.started_at), read_started(mine.started_at)
    if first is None or second is None:
        return True
    if condition != "healthy" or spec.healthcheck is None:
        return first < second
    return first + spec.healthcheck.interval_s * _FIRST_PROBE * NS <= second
