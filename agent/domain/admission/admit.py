"""The list of rules, and the gate that holds a case against them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from agent.domain.admission import asks, binds, capacity, content, images, network, ports, privileges, resources, update
from agent.domain.admission.case import Case, Rule
from agent.domain.document import Problem
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Manifest
from agent.domain.policy import Facts, Policy

RULES: tuple[Rule, ...] = (
    *asks.RULES,
    *images.RULES,
    *privileges.RULES,
    *binds.RULES,
    *content.RULES,
    *resources.RULES,
    *capacity.RULES,
    *network.RULES,
    *ports.RULES,
    *update.RULES,
)
"""Every rule. Each stands alone: leaving one out lets through exactly what it refuses."""

CODES: Mapping[str, str] = {rule.code: rule.refuses for rule in reversed(RULES)}
"""Every code of admission -> what it refuses; where several rules share a code, the first one's words."""


HELD_BY_OTHERS = frozenset(
    {
        "admission.memory_total",
        "admission.pids_total",
        "admission.point_owner",
        "admission.port_exclusive",
        "admission.port_taken",
    }
)
"""Codes of what another instance may have taken since a version was admitted."""


def admit(
    manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts, rules: Sequence[Rule] = RULES
) -> tuple[Problem, ...]:
    """Every violation, in the order of the manifest. Empty: the instance may be what `spec` says."""
    case = Case(manifest, spec, policy, facts)
    # One thing is seen by both looks; a person needs it once, by its first and more precise words.
    seen: dict[tuple[int, int, str], Problem] = {}
    for rule in rules:
        for problem in rule.judge(case):
            seen.setdefault((problem.mark.line, problem.mark.col, problem.code), problem)
    return tuple(seen[key] for key in sorted(seen))


def admit_return(manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts) -> tuple[Problem, ...]:
    """What stands in the way of going back to a version that was admitted once: only what others hold by now.

    A policy that has become stricter since is no reason to stay with a version that does not work.
    """
    return admit(manifest, spec, policy, facts, [rule for rule in RULES if rule.code in HELD_BY_OTHERS])


def admit_images(manifest: Manifest, policy: Policy, local: Container[str] = ()) -> tuple[Problem, ...]:
    """What is wrong with the images before any registry is asked. `local` holds images, as written, that are here."""
    document = manifest.document
    return tuple(
        document.problem(found.path, code, found.message, found.hint, at_key=True)
        for service in manifest.body.services
        if service.image not in manifest.builds
        for code, found in images.check_reference(service.name, service.image, policy, is_here=service.image in local)
    )
