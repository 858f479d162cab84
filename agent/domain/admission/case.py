"""What every rule of admission looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from agent.domain.document import Path, Problem
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Manifest
from agent.domain.policy import Facts, Policy, how_to_allow


@dataclass(frozen=True, slots=True)
class Case:
    """One instance before the gate: what it asks for, what it would become, the rules and the facts of the gateway."""

    manifest: Manifest
    spec: AppSpec
    policy: Policy
    facts: Facts

    def allows(self, grant: str) -> bool:
        """True when a technician gave `grant` to this instance."""
        return self.policy.allows(self.spec.instance, grant)

    def how_to_allow(self, grant: str) -> str:
        """What a technician, and nobody else, would write to give `grant` to this instance."""
        return how_to_allow(self.spec.instance, grant)

    def place_of_mount(self, service: str, target: str) -> Path:
        """The entry of `volumes` that mounts something at `target`."""
        for each in self.manifest.body.services:
            for use in each.volumes:
                if each.name == service and use.target == target:
                    return use.path
        return ("services", service, "volumes")


@dataclass(frozen=True, slots=True)
class Found:
    """A violation: the path in the manifest, what is wrong, and who can allow it or what to do instead.

    `numbers` are its amounts by name, for programs.
    """

    path: Path
    message: str
    hint: str = ""
    numbers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that admission refuses. Several rules may share a code: the same thing by another way.

    `refuses` is the line of the published table.
    """

    code: str
    refuses: str
    find: Callable[[Case], Iterator[Found]]

    def judge(self, case: Case) -> Iterator[Problem]:
        """Every violation of this rule, with its position."""
        for found in self.find(case):
            at_key = isinstance(found.path[-1], str)
            problem = case.manifest.document.problem(found.path, self.code, found.message, found.hint, at_key=at_key)
            yield replace(problem, numbers=found.numbers)
