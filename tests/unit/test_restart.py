"""Crash loops: when the agent takes over from the engine, how long it waits, and when it gives restarts back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

POLICY = RestartPolicy(deaths=4, window_s=60, healthy_s=60, first_s=1, last_s=300)


def die(episode: Episode, now: float, jitter: float = 0.5) -> Episode:
    return record_death(episode, POLICY, now, jitter, oom=False)


def test_a_crash_now_and_then_is_the_engines_affair() -> None:
    episode = Episode()
    for at in range(0, 1000, 60):
        episode = die(episode, at)
    assert not episode.looping


def test_four_deaths_within_a_minute_are_a_loop() -> None:
    episode = die(die(die(Episode(), 0), 1), 2)
    assert not episode.looping
    assert die(episode, 3).looping


def test_a_service_that_dies_every_half_minute_is_in_a_loop_too() -> None:
    episode = die(die(die(Episode(), 0), 30), 60)
    assert not episode.looping
    assert die(episode, 90).looping


def test_a_healthy_time_in_between_forgets_the_deaths_before_it() -> None:
    rare = replace(POLICY, window_s=600)
    episode = Episode()
    for at in range(0, 5000, 500):
        episode = record_death(record_well(episode, at - 100), rare, at, 0.5, oom=False)
    assert not episode.looping
    for at in range(5000, 5200, 50):
        episode = record_death(record_well(episode, at - 45), rare, at, 0.5, oom=False)
    assert episode.looping


def test_pauses_double_up_to_the_cap_and_never_end() -> None:
    episode = Episode(looping=True)
    waits = []
    for _ in range(50):
        episode = die(episode, 0)
        waits.append(episode.not_before)
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert waits[-1] == 300


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 30))
def test_jitter_stays_within_a_quarter(jitter: float, attempts: int) -> None:
    wait = record_death(Episode(looping=True, attempts=attempts), POLICY, 0, jitter, oom=False).not_before
    base = min(300, 2**attempts)
    assert 0.75 * base <= wait <= 1.25 * base


def test_jitter_spreads_the_pauses_of_services_that_died_together() -> None:
    waits = [
        record_death(Episode(looping=True, attempts=3), POLICY, 0, jitter, oom=False).not_before
        for jitter in (0, 0.5, 0.9)
    ]
    assert waits == pytest.approx([6, 8, 9.6])


def test_a_healthy_time_ends_the_episode_and_a_short_one_does_not() -> None:
    episode = record_well(Episode(looping=True), 100)
    assert not is_over(episode, POLICY, 159)
    assert is_over(episode, POLICY, 160)
    assert not is_over(die(episode, 159), POLICY, 1000)


def test_a_loop_found_at_start_goes_on_at_once_but_counts_as_one() -> None:
    assert adopt_loop(7).looping
    assert die(adopt_loop(7), 8).attempts == 2


def test_an_ill_service_is_restarted_at_once_and_then_with_growing_pauses() -> None:
    episode = Episode()
    assert episode.not_before == 0
    waits = []
    for at in range(0, 1000, 100):
        episode = record_illness(episode, POLICY, at, 0.5)
        waits.append(episode.not_before - at)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert not episode.looping, "a slow probe makes no crash loop; the engine keeps its policy"


def test_illness_and_crashes_make_one_loop_together() -> None:
    episode = record_illness(die(record_illness(Episode(), POLICY, 0, 0.5), 1), POLICY, 2, 0.5)
    assert not episode.looping
    assert die(episode, 3).looping


def test_a_probe_that_is_not_content_yet_does_not_count_as_well() -> None:
    episode = record_unwell(record_well(Episode(looping=True), 0))
    assert not is_over(episode, POLICY, 1000)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["die", "ill", "well", "unwell"]), st.floats(0, 200), st.floats(0, 1, exclude_max=True)),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_it_never_gives_up_and_never_hurries(events: list[tuple[str, float, float]]) -> None:
    """After any history the next restart is at most the last pause (and its jitter) away, and never in the past."""
    episode, now = Episode(), 0.0
    for what, later_s, jitter in events:
        now += later_s
        if is_over(episode, POLICY, now):
            episode = Episode()
        before = episode
        if what == "die":
            episode = record_death(episode, POLICY, now, jitter, oom=False)
        elif what == "ill":
            episode = record_illness(episode, POLICY, now, jitter)
        else:
            episode = record_well(episode, now) if what == "well" else record_unwell(episode)
        assert len(episode.deaths) <= POLICY.deaths
        assert episode.not_before <= now + POLICY.last_s * 1.25
        assert episode.attempts >= before.attempts, "only the end of the episode resets the pauses"
        assert episode.looping >= before.looping, "restarts go back to the engine only at the end of the episode"
        if episode.attempts > before.attempts:
            assert episode.not_before >= now + POLICY.first_s * 0.75
            assert episode.well_since is None


@given(EVENTS)
def test_a_loop_needs_each_death_within_the_window_of_the_one_before(events: list[tuple[str, float, float]]) -> None:
    episode, now, ends = Episode(), 0.0, []
    for what, later_s, jitter in events:
        now += later_s
        if what == "die":
            episode = record_death(episode, POLICY, now, jitter, oom=False)
        elif what == "ill":
            episode = record_illness(episode, POLICY, now, jitter)
        else:
            continue
        ends.append(now)
        soon = [b - a < POLICY.window_s for a, b in itertools.pairwise(ends)]
        assert episode.looping == any(all(soon[i : i + 3]) for i in range(len(soon) - 2))


@given(EVENTS)
def test_after_a_healthy_time_any_episode_is_over(events: list[tuple[str, float, float]]) -> None:
    episode, now = Episode(), 0.0
    for what, later_s, each in events:
        now += later_s
        episode = record_death(episode, POLICY, now, each, oom=False) if what == "die" else record_unwell(episode)
    episode = record_well(episode, now)
    # A breath more: (now + 60) - now may come out below 60 in binary fractions.
    assert is_over(episode, POLICY, now + POLICY.healthy_s + 0.001) == episode.open
