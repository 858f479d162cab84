"""The health gate: whether a new release has proved itself. Pure; the caller looks at the containers and the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from agent.domain.container import ContainerState, Health, RunState

FAST_FAIL_RESTARTS = 3


class Verdict(StrEnum):
    """What the gate says so far."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Gate:
    """Healthy within `within_s` seconds, then without a break for `stable_s`. `began` is monotonic seconds.

    `patient`: a healthcheck that is starting has a deadline of its own, and `within_s` does not count meanwhile.
    """

    within_s: float
    stable_s: float
    began: float
    patient: bool = False
    looked: float | None = None
    healthy_since: float | None = None
    first_starts: tuple[tuple[str, str, int], ...] = ()
    verdict: Verdict = Verdict.PENDING
    reason: str = ""

    @property
    def progress(self) -> str:
        """What a person watching wants to know."""
        return (
            "healthy, waiting for it to stay so" if self.healthy_since is not None else "waiting for it to be healthy"
        )


def observe(gate: Gate, expected: Sequence[str], seen: Sequence[ContainerState], probe: str | None, now: float) -> Gate:
    """The gate after one look.

    `expected` are the services that must run, `seen` their containers of the new release, `probe` None when the
    manifest's own probe is content (or there is none), else what it said.
    """
    if gate.verdict is not Verdict.PENDING:
        return gate
    unseen_s = now - (gate.began if gate.looked is None else gate.looked)
    gate = replace(gate, looked=now)
    starts = tuple(sorted((c.service, c.started_at, c.restart_count) for c in seen))
    restarted = bool(gate.first_starts) and starts != gate.first_starts
    if not gate.first_starts and len(seen) == len(expected):
        gate = replace(gate, first_starts=starts)
    if restarted:
        gate = replace(gate, healthy_since=None, first_starts=starts)
    trouble, kind = _trouble(expected, seen, probe)
    if kind is _Trouble.FATAL:
        return replace(gate, verdict=Verdict.FAILED, reason=trouble)
    if trouble:
        if gate.patient and kind is _Trouble.STARTING:
            return replace(gate, began=gate.began + unseen_s, healthy_since=None, reason=trouble)
        if now - gate.began >= gate.within_s:
            return replace(gate, verdict=Verdict.FAILED, reason=f"not healthy within {gate.within_s:g} s: {trouble}")
        return replace(gate, healthy_since=None, reason=trouble)
    if gate.healthy_since is None:
        if now - gate.began >= gate.within_s:
            reason = f"did not stay healthy: it restarted until {gate.within_s:g} s had passed"
            return replace(gate, verdict=Verdict.FAILED, reason=reason)
        return replace(gate, healthy_since=now, reason="")
    if now - gate.healthy_since >= gate.stable_s:
        return replace(gate, verdict=Verdict.PASSED, reason="")
    return gate


class _Trouble(Enum):
    """What may become of it: nothing good, something, or what the engine will tell."""

    FATAL = 1
    PASSING = 2
    STARTING = 3


def _trouble(expected: Sequence[str], seen: Sequence[ContainerState], probe: str | None) -> tuple[str, _Trouble]:
    by_service = {c.service: c for c in seen}
    for service in expected:
        container = by_service.get(service)
        if container is None:
            return f"{service} has no container", _Trouble.PASSING
        if container.ended_well:
            continue
        if container.health is Health.UNHEALTHY:
            return f"{service} is unhealthy", _Trouble.FATAL
        if container.restart_count >= FAST_FAIL_RESTARTS:
            return f"{service} crashes again and again{_why(container)}", _Trouble.FATAL
        if container.state is not RunState.RUNNING:
            return f"{service} is {container.state.value} (exit code {container.exit_code})", _Trouble.PASSING
        if container.health is Health.STARTING:
            return f"{service} is still starting", _Trouble.STARTING
    return probe or "", _Trouble.PASSING


def _why(container: ContainerState) -> str:
    """What is known of its last end; a running container's exit code says nothing."""
    if container.oom_killed:
        return " (it was killed for using too much memory)"
    return f" (exit code {container.exit_code})" if container.exit_code else ""
