"""When a crashed or sick container may start again: the engine's own policy at first, then the agent's back-off.

Pure: times are monotonic seconds given by the caller, randomness is a number in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LOOP_DEATHS = 4
LOOP_WINDOW_S = 60.0
HEALTHY_AFTER_S = 60.0
FIRST_DELAY_S = 1.0
LAST_DELAY_S = 300.0
_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`deaths`, each within `window_s` of the one before, make a loop; then delays double from `first_s` to `last_s`.

    Being well for `healthy_s` ends it, and before that forgets the deaths that came until then.
    """

    deaths: int = LOOP_DEATHS
    window_s: float = LOOP_WINDOW_S
    healthy_s: float = HEALTHY_AFTER_S
    first_s: float = FIRST_DELAY_S
    last_s: float = LAST_DELAY_S


@dataclass(frozen=True, slots=True)
class Episode:
    """The restarts of one service. `looping`: the agent owns the back-off. `not_before` is when it may start next.

    `attempts` counts the restarts that the agent itself has decided on, `well_since` is when it began to run (and,
    where it has a probe, to be healthy); None while it does not. `oom`: the kernel killed some of it for memory.
    """

    deaths: tuple[float, ...] = ()
    looping: bool = False
    attempts: int = 0
    not_before: float = 0.0
    well_since: float | None = None
    oom: bool = False

    @property
    def open(self) -> bool:
        """True from the agent's first own restart to the end of the healthy time."""
        return self.looping or self.attempts > 0


def record_death(episode: Episode, policy: RestartPolicy, now: float, jitter: float, *, oom: bool) -> Episode:
    """The episode after the container died at `now`."""
    recent = _recent(episode, policy, now)
    if not episode.looping and len(recent) < policy.deaths:
        return replace(episode, deaths=recent, well_since=None, oom=oom)
    return _back_off(replace(episode, deaths=recent, looping=True, oom=oom), policy, now, jitter)


def record_illness(episode: Episode, policy: RestartPolicy, now: float, jitter: float) -> Episode:
    """The episode after the agent decided at `now` to restart a container that runs and is not well.

    It counts as a death does. The engine keeps its policy, so a crash in between is still the engine's; only the next
    restart for illness waits until `not_before`, longer each time: a slow probe would else hide a loop for ever.
    """
    recent = _recent(episode, policy, now)
    looping = episode.looping or len(recent) >= policy.deaths
    return _back_off(replace(episode, deaths=recent, looping=looping), policy, now, jitter)


def record_well(episode: Episode, now: float) -> Episode:
    """The episode when the container runs, and is healthy where it has a probe; the first such moment counts."""
    return episode if episode.well_since is not None else replace(episode, well_since=now)


def record_unwell(episode: Episode) -> Episode:
    """The episode when the container does not run, or its probe is not content (yet)."""
    return episode if episode.well_since is None else replace(episode, well_since=None)


def is_over(episode: Episode, policy: RestartPolicy, now: float) -> bool:
    """True when the service has been well for the healthy time: counters reset, the engine owns restarts again."""
    return episode.open and episode.well_since is not None and now - episode.well_since >= policy.healthy_s


def adopt_loop(now: float) -> Episode:
    """The episode of a container found with restart policy `no`: an earlier agent had taken it over."""
    return Episode(looping=True, attempts=1, not_before=now)


def _recent(episode: Episode, policy: RestartPolicy, now: float) -> tuple[float, ...]:
    healthy = episode.well_since is not None and now - episode.well_since >= policy.healthy_s
    soon = bool(episode.deaths) and now - episode.deaths[-1] < policy.window_s
    return (*(episode.deaths if soon and not healthy else ()), now)[-policy.deaths :]


def _back_off(episode: Episode, policy: RestartPolicy, now: float, jitter: float) -> Episode:
    delay = min(policy.last_s, policy.first_s * 2 ** min(episode.attempts, _DOUBLINGS))
    wait = now + delay * (0.75 + 0.5 * jitter)
    return replace(episode, attempts=episode.attempts + 1, not_before=wait, well_since=None)
