"""A fault that must strike while an operation is under way: nearer moments are tried until one does, or all have missed.

An operation often takes less time than the latest moment that a seed may give. A fault after its end proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tests.faults.campaign import MISSED, NEARER
from tests.faults.lab.gateway import FINAL, Gateway
from tests.faults.lab.kill import settle


class Jobs(Protocol):
    """Whoever knows of a job how far it is: the agent, by its own socket."""

    def job(self, number: str) -> Mapping[str, Any]:
        """`ecgw job show`."""
        ...


def is_under_way(jobs: Jobs, job: str) -> bool:
    """Whether the job is not over now. Asked right after a fault it says for certain that the fault struck in time."""
    return jobs.job(job)["state"] not in FINAL


def nearer_delays(delay_s: float) -> list[float]:
    """What is tried in turn for a fault that was meant to come so long after the operation's begin."""
    return [delay_s, delay_s / 2, delay_s / 4, 0.0]


def strike_in_time(delay_s: float, attempt: Callable[[float], str]) -> str:
    """`attempt` one delay after the other, until the fault struck and all was judged. MISSED when it never struck.

    An attempt says "" when all was well, MISSED when all was well and the operation over before the fault, or what is wrong.
    """
    for tried_s in nearer_delays(delay_s):
        problem = attempt(tried_s)
        if problem != MISSED:
            return problem or ("" if tried_s == delay_s else f"{NEARER}after {tried_s:.3f} s, not {delay_s:.3f} s")
    return MISSED


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation whose command was answered for with `job`; `before` is the version that ran then, `goal` what it leads to."""

    gateway: Gateway
    operation: str
    before: str
    goal: str
    job: str

    def is_under_way(self) -> bool:
        """Whether its job is not over now, by the agent's own word."""
        return is_under_way(self.gateway, self.job)

    def settle(self) -> str:
        """Wait for what must hold; what does not."""
        return settle(self.gateway, self.operation, self.before, self.goal, self.job)


def begin(gateway: Gateway, operation: str) -> Begun:
    """Bring the gateway where the operation begins, and begin it."""
    gateway.prepare(operation)
    before, goal = gateway.version, gateway.goal(operation)
    return Begun(gateway, operation, before, goal, gateway.begin(operation))
