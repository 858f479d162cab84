"""The proof that what admission lets through is safe, and the proof of the proof: no rule can be left out unnoticed."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.domain.admission import CODES, RULES
from tests.unit.admission.proof import Made, make, run

SHARE = 10_000
POOL = 14_000

NO_WORD_FOR_IT = {
    f"admission.{name}"
    for name in (
        "cgroup",
        "cgroup_parent",
        "credential_spec",
        "device_cgroup_rules",
        "external_links",
        "group_add",
        "ipc",
        "isolation",
        "label",
        "links",
        "network_driver",
        "network_external",
        "network_ipam",
        "network_mode",
        "network_name",
        "network_options",
        "oom_kill_disable",
        "oom_score_adj",
        "pid",
        "privileged",
        "propagation",
        "runtime",
        "storage_opt",
        "sysctls",
        "unconfined",
        "userns_mode",
        "uts",
        "volume_driver",
        "volume_external",
        "volume_options",
        "volumes_from",
    )
}
"""Codes of what the create body has no word for: it is an allow-list, so even without the rule nothing comes of the wish."""

SEEN_ELSEWHERE = {
    "admission.architecture": "the judge sees no image, only its name",
    "admission.build": "what is built is no part of a container's body",
    "admission.build_context": "the same",
    "admission.digest": "what runs is pinned either way; the rule is about who may move a tag",
    "admission.disk": "no body says how large an image is",
    "admission.disk_limit": "the engine knows no such limit; the agent measures",
    "admission.file_outside": "the reader drops such a file, so no body has it",
    "admission.file_source": "the same",
    "admission.healthcheck": "no body says what others wait for",
    "admission.other": "notes that nobody knows",
    "admission.point_owner": "points are no part of a body",
    "admission.start_first": "two bodies that are each safe",
}
"""Codes that no create body can show -> why. Unit tests of their own look after them."""


def test_of_ten_thousand_cases_all_that_is_let_through_is_safe() -> None:
    count = run(range(SHARE))
    assert count.violations == {}
    # The cases are neither all harmless nor all hopeless, and the judge agrees with most refusals on its own.
    assert count.accepted > SHARE // 5
    assert count.refused > SHARE // 5
    assert count.unsafe_refused > SHARE // 5
    assert count.yaml == SHARE // 50
    assert CODES.keys() - count.codes.keys() == set()


@functools.cache
def alone() -> dict[str, tuple[Made, ...]]:
    """For each code the cases that it alone refuses."""
    found: dict[str, list[Made]] = {}
    for seed in range(1_000_000, 1_000_000 + POOL):
        made = make(seed)
        if made is None:
            continue
        codes = {problem.code for problem in made.admit()}
        if len(codes) == 1:
            found.setdefault(codes.pop(), []).append(made)
    return {code: tuple(cases) for code, cases in found.items()}


@pytest.mark.parametrize("code", sorted(CODES.keys() - SEEN_ELSEWHERE.keys() - NO_WORD_FOR_IT))
def test_without_a_rule_the_judge_finds_what_it_refused(code: str) -> None:
    rules = tuple(rule for rule in RULES if rule.code != code)
    cases = alone().get(code, ())
    assert cases, f"no case is refused for {code} alone"
    assert all(made.admit(rules) == () for made in cases)
    assert any(made.violations() for made in cases), f"the judge is blind for {code}"


@pytest.mark.parametrize("code", sorted(NO_WORD_FOR_IT))
def test_what_the_body_has_no_word_for_is_safe_even_without_its_rule(code: str) -> None:
    rules = tuple(rule for rule in RULES if rule.code != code)
    cases = alone().get(code, ())
    assert cases, f"no case is refused for {code} alone"
    for made in cases:
        assert made.admit(rules) == ()
        assert made.violations() == []


def test_the_command_prints_its_counts() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.unit.admission.proof", "--count", "200", "--first", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=root)
    body = json.loads(done.stdout)
    assert (body["cases"], body["as_yaml_text"], body["violations"]) == (200, 4, 0)
    assert body["accepted"] + body["refused"] + body["refused_by_the_reader"] == 200
