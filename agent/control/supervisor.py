"""Crash loops: the engine restarts a crashed container; when that becomes a loop, the agent owns the back-off.

The take-over is visible in the engine itself (restart policy `no`), so a new agent finds it there. The supervisor
only decides; the reconciler carries its steps out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from agent.domain.alarm import Alarm, Severity
from agent.domain.container import ContainerState, Restart, RunState
from agent.domain.instantiate import AppSpec
from agent.domain.planner import StartContainer, Step, UpdateContainer, take_over
from agent.domain.restart import Episode, RestartPolicy, adopt_loop, is_over, record_death, record_start
from agent.ports import Clock, EngineEvent


class Alarms(Protocol):
    """Where the control room raises its alarms."""

    def raise_alarm(self, source: str, code: str, severity: Severity, message: str) -> object: ...
    def clear_alarm(self, source: str, code: str) -> object: ...
    def active(self) -> list[Alarm]: ...


class Supervisor:
    """The episodes of all services. `jitter` gives numbers in [0, 1)."""

    def __init__(
        self, alarms: Alarms, clock: Clock, policy: RestartPolicy, jitter: Callable[[], float] = random.random
    ) -> None:
        self._alarms = alarms
        self._clock = clock
        self._policy = policy
        self._jitter = jitter
        self._episodes: dict[tuple[str, str], Episode] = {}
        self._stopping: set[str] = set()
        self._adopted: set[str] = set()

    def expect_stop(self, container_id: str) -> None:
        """The next death of this container is our own doing."""
        self._stopping.add(container_id)

    def see(self, event: EngineEvent) -> None:
        """Take note of a start or a death."""
        key = (event.instance, event.service)
        now = self._clock.monotonic()
        if event.action == "start":
            self._episodes[key] = record_start(self._episodes.get(key, Episode()), now)
        elif event.action == "oom":
            self._episodes[key] = replace(self._episodes.get(key, Episode()), oom=True)
        elif event.action == "die":
            if event.container_id in self._stopping:
                self._stopping.discard(event.container_id)
                return
            self._die(key, now)

    def _die(self, key: tuple[str, str], now: float) -> None:
        before = self._episodes.get(key, Episode())
        after = record_death(before, self._policy, now, self._jitter(), oom=before.oom)
        self._episodes[key] = after
        if after.looping and not before.looping:
            self._raise(key, f"{len(after.deaths)} times within {self._policy.window_s:g} s", oom=after.oom)

    def _raise(self, key: tuple[str, str], how_often: str, *, oom: bool) -> None:
        instance, service = key
        why = " (it used more memory than its limit)" if oom else ""
        message = f"{instance}: service {service} crashed {how_often}{why}; it is restarted with growing pauses"
        self._alarms.raise_alarm(source(instance, service), "crash_loop", Severity.MAJOR, message)

    def adopt(self, instance: str, spec: AppSpec, containers: Iterable[ContainerState]) -> None:
        """Continue the loops of an earlier agent: policy `no` where the manifest wants restarts. Once an instance."""
        if instance in self._adopted:
            return
        self._adopted.add(instance)
        wanted = {c.service: c for c in spec.containers}
        for container in containers:
            key = (instance, container.service)
            spec_of = wanted.get(container.service)
            if key in self._episodes or spec_of is None or container.spec != spec_of.spec_hash:
                continue
            taken = container.live.restart is Restart.NO and spec_of.live.restart is not Restart.NO
            spinning = container.state is RunState.RESTARTING and container.restart_count >= self._policy.deaths
            if taken or spinning:
                now = self._clock.monotonic()
                episode = adopt_loop(now)
                self._episodes[key] = record_start(episode, now) if container.serving and taken else episode
                self._raise(key, f"{container.restart_count or 'several'} times", oom=container.oom_killed)

    def looping(self, instance: str) -> frozenset[str]:
        """The services whose restarts are the supervisor's affair."""
        return frozenset(s for (i, s), e in self._episodes.items() if i == instance and e.looping)

    def forget(self, instance: str) -> None:
        """The instance is stopped, replaced or gone: its episodes end and their alarms are cleared."""
        self._adopted.add(instance)
        for key in [k for k in self._episodes if k[0] == instance]:
            episode = self._episodes.pop(key)
            if episode.looping:
                self._alarms.clear_alarm(source(*key), "crash_loop")

    def steps(self, instance: str, containers: Iterable[ContainerState]) -> tuple[list[Step], float | None]:
        """What to do now for the looping services, and in how many seconds to look again."""
        now = self._clock.monotonic()
        steps: list[Step] = []
        waits: list[float] = []
        for container in containers:
            key = (instance, container.service)
            episode = self._episodes.get(key)
            if episode is None or not episode.looping:
                continue
            if is_over(episode, self._policy, now):
                self._episodes.pop(key)
                self._alarms.clear_alarm(source(*key), "crash_loop")
                waits.append(0.0)
                continue
            if container.live.restart is not Restart.NO:
                steps.append(UpdateContainer(container.id, container.service, take_over(container.live)))
            if container.state is RunState.RUNNING:
                started = now if episode.started_at is None else episode.started_at
                self._episodes[key] = record_start(episode, started)
                waits.append(started + self._policy.healthy_s - now)
            elif episode.not_before <= now:
                steps.append(StartContainer(container.service, container.spec))
            else:
                waits.append(episode.not_before - now)
        return steps, max(0.0, min(waits)) if waits else None


def source(instance: str, service: str) -> str:
    """The alarm source of a service."""
    return f"app:{instance}/{service}"
