"""What all instances together may take of this machine: memory, processes, disk.

Limits are upper bounds that are seldom reached at once, so their sum may pass the memory by the policy's factor; a
machine that is bound to run out of memory at some time is no gateway, so it may not pass it by more. Processors are
shared by time: there each service is held to its own limit, and the sum to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.admission.resources import log_bytes
from agent.domain.manifest_model import Strategy
from agent.domain.policy import MIB, Claim

_PLACE = ("services",)


def _together(case: Case) -> Iterator[Found]:
    have, wants = case.facts.mem_bytes, _own(case)
    most = max((container.live.mem_bytes for container in case.spec.containers), default=0)
    if have and wants.mem_bytes > have >= most:
        words = f"together its services want {wants.mem_bytes // MIB} MiB memory, this gateway has {have // MIB} MiB"
        yield Found(_PLACE, words, "ask for less")


def _memory(case: Case) -> Iterator[Found]:
    budget = case.policy.mem_budget_bytes(case.facts.mem_bytes)
    others = _others(case).mem_bytes
    wants = _own(case).mem_bytes
    if case.facts.mem_bytes and others + wants > budget:
        words = (
            f"its services want {wants // MIB} MiB memory, the other APPs were promised {others // MIB} MiB, "
            f"and this gateway promises {budget // MIB} MiB in all"
        )
        yield Found(_PLACE, words, "ask for less, remove an APP, or have a technician raise policy.capacity")


def _pids(case: Case) -> Iterator[Found]:
    have = case.facts.pids * (100 - case.policy.pids_reserve_percent) // 100
    others, wants = _others(case).pids, _own(case).pids
    if have and others + wants > have:
        words = (
            f"its services want {wants} processes, the other APPs were promised {others}, and there are {have} for APPs"
        )
        yield Found(_PLACE, words, "ask for less, or remove an APP")


def _disk(case: Case) -> Iterator[Found]:
    free = case.facts.disk_free_bytes
    if free is None:
        return
    logs = sum(log_bytes(each) for each in case.spec.containers)
    copies = sum(case.facts.volume_bytes.get(name, 0) for name in case.spec.update.rollback_volumes)
    needs = logs + copies
    if needs > free - case.policy.disk_reserve_bytes:
        words = (
            f"it needs {needs / MIB:.0f} MiB of disk (logs {logs / MIB:.0f}, copies of volumes "
            f"{copies / MIB:.0f}), {free / MIB:.0f} MiB are free and {case.policy.disk_reserve_bytes / MIB:.0f} MiB stay so"
        )
        hint = "free some space (ecgw image prune), or have a technician lower the reserve"
        reserve = case.policy.disk_reserve_bytes
        numbers = (("needed_bytes", needs), ("free_bytes", free), ("reserve_bytes", reserve))
        yield Found(_PLACE, words, hint, numbers)


def _disk_limit(case: Case) -> Iterator[Found]:
    most, wants = case.policy.max_disk_bytes, case.spec.disk_bytes
    if most and wants > most:
        words = f"it wants {wants / MIB:.0f} MiB of disk for itself, the policy allows {most / MIB:.0f} MiB"
        yield Found(("x-ec", "disk"), words, "ask for less, or have a technician raise policy.maximum.disk")


def _own(case: Case) -> Claim:
    lives = [container.live for container in case.spec.containers]
    return Claim(sum(live.mem_bytes for live in lives), sum(live.pids for live in lives))


def _others(case: Case) -> Claim:
    """What the other instances hold; with start-first also this one's present version, which serves meanwhile."""
    instance = case.spec.instance
    stays = case.spec.update.strategy is Strategy.START_FIRST
    held = [claim for name, claim in case.facts.claims.items() if name != instance or stays]
    return Claim(sum(claim.mem_bytes for claim in held), sum(claim.pids for claim in held))


RULES = (
    Rule("admission.memory", "more memory than the policy or the gateway has", _together),
    Rule("admission.memory_total", "more memory than is left of what the gateway promises to all APPs", _memory),
    Rule("admission.pids_total", "more processes than are left for all APPs", _pids),
    Rule("admission.disk", "more disk than is free beside the reserve", _disk),
    Rule("admission.disk_limit", "more disk for itself than the policy allows an instance", _disk_limit),
)
