"""Killed before and after every journaled step of upgrade and roll-back, the gateway ends with the old or the new version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaigns.steps import LEAST_STEPS, kill_everywhere
from tests.faults.lab.gateway import open_gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("engine_socket")]


def test_killed_at_any_step_of_upgrade_and_roll_back(short_dir: Path) -> None:
    with open_gateway(short_dir, warm=True) as gateway:
        found = kill_everywhere(gateway, ("upgrade", "rollback"))
    assert not found.wrong
    assert not found.missed
    assert found.steps.keys() == {"upgrade", "rollback"}
    assert min(found.steps.values()) >= LEAST_STEPS, found.steps


def test_killed_at_any_step_start_first_one_version_serves_at_every_moment(short_dir: Path) -> None:
    with open_gateway(short_dir, start_first=True, warm=True) as gateway:
        found = kill_everywhere(gateway, ("upgrade", "rollback"))
    assert not found.wrong
    assert not found.missed
    assert found.steps.keys() == {"upgrade", "rollback"}
    assert min(found.steps.values()) >= LEAST_STEPS, found.steps
