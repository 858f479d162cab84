"""Crash loops: when the agent takes over from the engine, how long it waits, and when it gives restarts back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.restart import Episode, RestartPolicy, adopt_loop, is_over, record_death, record_start

POLICY = RestartPolicy(deaths=4, window_s=60, healthy_s=60, first_s=5, last_s=300)


def die(episode: Episode, now: float, jitter: float = 0.5) -> Episode:
    return record_death(episode, POLICY, now, jitter, oom=False)


def test_a_crash_now_and_then_is_the_engines_affair() -> None:
    episode = Episode()
    for now in range(0, 1000, 30):
        episode = die(episode, now)
    assert not episode.looping


def test_four_deaths_within_a_minute_are_a_loop() -> None:
    episode = die(die(die(Episode(), 0), 1), 2)
    assert not episode.looping
    assert die(episode, 3).looping


def test_pauses_double_up_to_the_cap_and_never_end() -> None:
    episode = Episode(looping=True)
    waits = []
    for _ in range(50):
        episode = die(episode, 0)
        waits.append(episode.not_before)
    assert waits[:7] == [5, 10, 20, 40, 80, 160, 300]
    assert waits[-1] == 300


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 30))
def test_jitter_stays_within_a_quarter(jitter: float, attempts: int) -> None:
    wait = record_death(Episode(looping=True, attempts=attempts), POLICY, 0, jitter, oom=False).not_before
    base = min(300, 5 * 2**attempts)
    assert 0.75 * base <= wait <= 1.25 * base


def test_a_healthy_time_ends_the_episode_and_a_short_one_does_not() -> None:
    episode = record_start(Episode(looping=True), 100)
    assert not is_over(episode, POLICY, 159)
    assert is_over(episode, POLICY, 160)
    assert not is_over(die(episode, 159), POLICY, 1000)


def test_a_loop_found_at_start_goes_on_at_once_but_counts_as_one() -> None:
    assert adopt_loop(7).looping
    assert die(adopt_loop(7), 8).attempts == 2
