"""Crash loops and illness: when a service is restarted, and who does it.

The engine restarts a crashed container; when that becomes a loop, the agent owns the back-off. The take-over is visible
in the engine itself (restart policy `no`), so a new agent finds it there. What runs and is not well (its probe says
so, or a promised heartbeat stays away) the agent restarts itself. The supervisor only decides; the reconciler carries
its steps out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from agent.control.converge.memorykills import CODE as MEMORY_CODE
from agent.control.converge.memorykills import MemoryKills
from agent.domain.alarm import Alarm, Severity
from agent.domain.container import ContainerState, Health, Restart, RunState
from agent.domain.ending import describe_end, killed_for_memory
from agent.domain.instantiate import AppSpec
from agent.domain.planner import take_over
from agent.domain.restart import (
    Episode,
    RestartPolicy,
    adopt_loop,
    is_over,
    record_death,
    record_illness,
    record_unwell,
    record_well,
)
from agent.domain.steps import StartContainer, Step, StopContainer, UpdateContainer
from agent.ports import Clock, EngineEvent

log = logging.getLogger("agent.control.converge.supervisor")

CRASH_LOOP = "crash_loop"
UNHEALTHY = "unhealthy"
Key = tuple[str, str]


class Alarms(Protocol):
    """Where the control room raises its alarms."""

    def raise_alarm(self, source: str, code: str, severity: Severity, message: str) -> object: ...
    def clear_alarm(self, source: str, code: str) -> object: ...
    def active(self) -> list[Alarm]: ...


class Heartbeats(Protocol):
    """What services promised through the eSDK."""

    def late(self, instance: str) -> Mapping[str, float]:
        """Seconds by which each service's promised heartbeat is late; those in time are left out."""
        ...

    def restarted(self, instance: str, service: str) -> None:
        """The service starts anew: what it promised before is void."""
        ...


class Supervisor:
    """The episodes of all services. `jitter` gives numbers in [0, 1)."""

    def __init__(
        self,
        alarms: Alarms,
        clock: Clock,
        policy: RestartPolicy,
        heartbeats: Heartbeats,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._alarms = alarms
        self._clock = clock
        self._policy = policy
        self._heartbeats = heartbeats
        self._jitter = jitter
        self._episodes: dict[Key, Episode] = {}
        self._told: dict[Key, str] = {}
        self._stopping: set[str] = set()
        self._adopted: set[str] = set()
        self.kills = MemoryKills(self._tell, self._clear, policy.healthy_s)

    def expect_stop(self, container_id: str) -> None:
        """The next death of this container is our own doing."""
        self._stopping.add(container_id)

    def see(self, event: EngineEvent) -> None:
        """Take note of a start, a death or a kill for memory."""
        key = (event.instance, event.service)
        now = self._clock.monotonic()
        if event.action == "start":
            self._stopping.discard(event.container_id)
            self._heartbeats.restarted(*key)
            self._episodes[key] = replace(record_unwell(self._episodes.get(key, Episode())), oom=False)
        elif event.action == "unpause":
            self._stopping.discard(event.container_id)  # nothing died: its next death is its own
        elif event.action == "oom":
            self.kills.note(key, now)
            self._episodes[key] = replace(self._episodes.get(key, Episode()), oom=True)
        elif event.action == "die":
            if event.container_id in self._stopping:
                self._stopping.discard(event.container_id)
                return
            before = self._episodes.get(key, Episode())
            log.info("service_died instance=%s service=%s container=%s", *key, event.container_id[:12])
            self._episodes[key] = record_death(before, self._policy, now, self._jitter(), oom=before.oom)

    def adopt(self, instance: str, spec: AppSpec, containers: Iterable[ContainerState]) -> None:
        """Continue the loops of an earlier agent: policy `no` where the manifest wants restarts. Once an instance."""
        if instance in self._adopted:
            return
        self._adopt_alarms(instance)
        wanted = {c.service: c for c in spec.containers}
        for container in containers:
            key = (instance, container.service)
            spec_of = wanted.get(container.service)
            if spec_of is None or container.spec != spec_of.spec_hash:
                continue
            taken = container.live.restart is Restart.NO and spec_of.live.restart is not Restart.NO
            spinning = container.state is RunState.RESTARTING and container.restart_count >= self._policy.deaths
            if taken or spinning:
                self._episodes[key] = replace(adopt_loop(self._clock.monotonic()), oom=container.oom_killed)

    def _adopt_alarms(self, instance: str) -> None:
        """What an earlier agent raised stands until it is over, and is not raised twice."""
        self._adopted.add(instance)
        now = self._clock.monotonic()
        for alarm in self._alarms.active():
            scope, _, service = alarm.source.partition("/")
            if scope != f"app:{instance}" or not service:
                continue
            key = (instance, service)
            if alarm.code in (CRASH_LOOP, UNHEALTHY):
                self._told[key] = alarm.code
                self._episodes.setdefault(key, Episode(attempts=1, not_before=now))
            elif alarm.code == MEMORY_CODE:
                self.kills.adopt(key, now)

    def looping(self, instance: str) -> frozenset[str]:
        """The services whose restarts are the supervisor's affair."""
        return frozenset(s for (i, s), e in self._episodes.items() if i == instance and e.looping)

    def forget(self, instance: str) -> None:
        """The instance is stopped, replaced, on trial or gone: its episodes end and their alarms are cleared."""
        if instance not in self._adopted:
            self._adopt_alarms(instance)
        self.kills.forget(instance)
        self.end_trial(instance)

    def end_trial(self, instance: str) -> None:
        """How a version on trial died says nothing of the one before it; what the kernel killed it for stays known."""
        for key in [k for k in self._episodes if k[0] == instance]:
            self._end(key)

    def endings(self, containers: Iterable[ContainerState]) -> dict[str, str]:
        """Per service in words why it last ended, or a process in it; only where there is something to say."""
        now = self._clock.monotonic()
        words = {
            c.service: describe_end(c, memory_kill=self.kills.recent((c.instance, c.service), now)) for c in containers
        }
        return {service: said for service, said in words.items() if said}

    def steps(self, spec: AppSpec, containers: Iterable[ContainerState]) -> tuple[list[Step], float | None]:
        """What to do now for services that loop or are ill, and in how many seconds to look again."""
        now = self._clock.monotonic()
        late = self._heartbeats.late(spec.instance)
        wanted = {c.service: c for c in spec.containers}
        steps: list[Step] = []
        waits: list[float | None] = []
        for container in containers:
            spec_of = wanted.get(container.service)
            if spec_of is None or container.spec != spec_of.spec_hash:
                continue
            key = (spec.instance, container.service)
            episode = self._judge(key, container, now)
            waits.append(self.kills.look(container, now, looping=episode.looping))
            if is_over(episode, self._policy, now):
                self._end(key)
                waits.append(0.0)
                continue
            own, wait = self._treat(container, spec_of.stop_grace_s, _illness(container, late))
            steps += own
            waits.append(wait)
        known = [max(0.0, wait) for wait in waits if wait is not None]
        return steps, min(known) if known else None

    def _judge(self, key: Key, container: ContainerState, now: float) -> Episode:
        """The episode after a look at the container; nothing is kept of a service that has none."""
        episode = self._episodes.get(key)
        if episode is None:
            return Episode()
        content = container.health in (Health.NONE, Health.HEALTHY)
        well = container.state is RunState.RUNNING and content
        episode = record_well(episode, now) if well else record_unwell(episode)
        self._episodes[key] = episode
        return episode

    def _treat(self, container: ContainerState, grace_s: int, illness: str) -> tuple[list[Step], float | None]:
        """The steps for one container, and when to look at it again."""
        key = (container.instance, container.service)
        episode = self._episodes.get(key, Episode())
        now = self._clock.monotonic()
        steps: list[Step] = []
        if episode.looping:
            self._say_looping(key, container, episode)
            if container.live.restart is not Restart.NO:
                steps.append(UpdateContainer(container.id, container.service, take_over(container.live)))
        if illness:
            if episode.not_before > now:
                return steps, episode.not_before - now
            self._say_ill(key, illness)
            self._episodes[key] = record_illness(episode, self._policy, now, self._jitter())
            stop = StopContainer(container.id, container.service, grace_s)
            return [*steps, stop, StartContainer(container.service, container.spec)], None
        if container.state is RunState.RUNNING:
            since = episode.well_since
            return steps, since + self._policy.healthy_s - now if episode.open and since is not None else None
        if not episode.looping:
            return steps, None
        if episode.not_before <= now:
            return [*steps, StartContainer(container.service, container.spec)], None
        return steps, episode.not_before - now

    def _say_looping(self, key: Key, container: ContainerState, episode: Episode) -> None:
        if key in self._told:
            return
        why = ""
        if episode.oom or container.oom_killed or self.kills.recent(key, self._clock.monotonic()):
            why = f", {killed_for_memory(container.live.mem_bytes)}"
        often = len(episode.deaths) or container.restart_count or "several"
        within = f", each within {self._policy.window_s:g} s of the last" if episode.deaths else ""
        message = f"{key[0]}: service {key[1]} crashed {often} times{within}{why}; it is restarted with growing pauses"
        self._open(key, CRASH_LOOP, message)

    def _say_ill(self, key: Key, illness: str) -> None:
        if key not in self._told:
            self._open(key, UNHEALTHY, f"{key[0]}: service {key[1]} {illness}; it is restarted, with growing pauses")

    def _open(self, key: Key, code: str, message: str) -> None:
        """One alarm an episode, whatever else comes in it."""
        self._told[key] = code
        self._tell(key, code, Severity.MAJOR, message)

    def _end(self, key: Key) -> None:
        self._episodes.pop(key, None)
        code = self._told.pop(key, None)
        if code is not None:
            self._clear(key, code)

    def _tell(self, key: Key, code: str, severity: Severity, message: str) -> None:
        self._alarms.raise_alarm(source(*key), code, severity, message)

    def _clear(self, key: Key, code: str) -> None:
        self._alarms.clear_alarm(source(*key), code)


def source(instance: str, service: str) -> str:
    """The alarm source of a service."""
    return f"app:{instance}/{service}"


def _illness(container: ContainerState, late: Mapping[str, float]) -> str:
    """What is wrong with a container that runs, "" when nothing is."""
    if container.state is not RunState.RUNNING:
        return ""
    if container.health is Health.UNHEALTHY:
        return "is unhealthy"
    if container.service in late:
        return f"is {late[container.service]:.0f} s late with the heartbeat it promised"
    return ""
