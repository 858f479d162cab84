"""When a crashed container may start again: the engine's own policy at first, then the agent's back-off.

Pure: times are monotonic seconds given by the caller, randomness is a number in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LOOP_DEATHS = 4
LOOP_WINDOW_S = 60.0
HEALTHY_AFTER_S = 60.0
FIRST_DELAY_S = 5.0
LAST_DELAY_S = 300.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`deaths` within `window_s` make a loop; then delays double from `first_s` to `last_s`; `healthy_s` ends it."""

    deaths: int = LOOP_DEATHS
    window_s: float = LOOP_WINDOW_S
    healthy_s: float = HEALTHY_AFTER_S
    first_s: float = FIRST_DELAY_S
    last_s: float = LAST_DELAY_S


@dataclass(frozen=True, slots=True)
class Episode:
    """The restarts of one service. `looping`: the agent owns the back-off. `not_before` is when it may start next."""

    deaths: tuple[float, ...] = ()
    looping: bool = False
    attempts: int = 0
    not_before: float = 0.0
    started_at: float | None = None
    oom: bool = False


def record_death(episode: Episode, policy: RestartPolicy, now: float, jitter: float, *, oom: bool) -> Episode:
    """The episode after the container died at `now`."""
    recent = (*(t for t in episode.deaths if now - t < policy.window_s), now)[-policy.deaths :]
    if not episode.looping and len(recent) < policy.deaths:
        return replace(episode, deaths=recent, started_at=None, oom=oom)
    delay = min(policy.last_s, policy.first_s * 2 ** min(episode.attempts, 16))
    return Episode(
        deaths=recent,
        looping=True,
        attempts=episode.attempts + 1,
        not_before=now + delay * (0.75 + 0.5 * jitter),
        oom=oom,
    )


def record_start(episode: Episode, now: float) -> Episode:
    """The episode after the container started at `now`."""
    return replace(episode, started_at=now)


def is_over(episode: Episode, policy: RestartPolicy, now: float) -> bool:
    """True when a looping service has run for the healthy time: counters reset, the engine owns restarts again."""
    return episode.looping and episode.started_at is not None and now - episode.started_at >= policy.healthy_s


def adopt_loop(now: float) -> Episode:
    """The episode of a container found with restart policy `no`: an earlier agent had taken it over."""
    return Episode(looping=True, attempts=1, not_before=now)
