"""What one site file does: the things it defines, the names it takes, and the things it leans on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.domain.document import Mark, Problem


@dataclass(frozen=True, slots=True)
class Claim:
    """A name that may be taken only once on a gateway (``point 'boiler/temp'``), and where it stands in the file."""

    name: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Effect:
    """The content of one valid file. `needs` are names that other files of the same folder must define."""

    source: str
    items: tuple[Any, ...]
    claims: tuple[Claim, ...] = ()
    needs: tuple[Claim, ...] = ()
    warnings: tuple[Problem, ...] = ()


class Book:
    """Who took which name. Effects are entered one by one; one that collides or leans on nothing is not entered."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[str, Mark]] = {}

    def enter(self, effect: Effect) -> list[Problem]:
        """Enter all of `effect`, or nothing of it and say why."""
        problems = [*self._collisions(effect), *self._missing(effect)]
        if not problems:
            self._taken.update({claim.name: (effect.source, claim.mark) for claim in effect.claims})
        return problems

    def _collisions(self, effect: Effect) -> Sequence[Problem]:
        own: dict[str, tuple[str, Mark]] = {}
        problems: list[Problem] = []
        for claim in effect.claims:
            holder = self._taken.get(claim.name) or own.get(claim.name)
            if holder is not None:
                source, mark = holder
                hint = f"the other is at {source}:{mark.line}:{mark.col}; rename or remove one"
                message = f"{claim.name} is defined twice"
                problems.append(Problem(effect.source, claim.mark, "site.duplicate", message, hint))
            own.setdefault(claim.name, (effect.source, claim.mark))
        return problems

    def _missing(self, effect: Effect) -> Sequence[Problem]:
        own = {claim.name for claim in effect.claims}
        return [
            Problem(
                effect.source, need.mark, "site.missing", f"there is no {need.name}", f"define {need.name} beside it"
            )
            for need in effect.needs
            if need.name not in self._taken and need.name not in own
        ]


def position(source: str, mark: Mark) -> str:
    """``file:line``, as configurations carry it for people."""
    return f"{source}:{mark.line}"


def pairs(mapping: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A mapping as the hashable pairs that domain objects carry, in the file's order."""
    return tuple(mapping.items())
