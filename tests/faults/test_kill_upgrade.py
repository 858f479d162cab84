"""Killed before and after every journaled step of upgrade and roll-back, the gateway ends with the old or the new version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaigns.steps import kill_everywhere
from tests.faults.lab.gateway import open_gateway


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("engine_socket")
def test_killed_at_any_step_of_upgrade_and_roll_back(short_dir: Path) -> None:
    with open_gateway(short_dir, warm=True) as gateway:
        wrong, steps = kill_everywhere(gateway, ("upgrade", "rollback"))
    assert not wrong
    # What they have at least: a network, a volume, two containers; made, started, stopped, removed.
    assert all(count > 4 for count in steps.values()), steps
    assert len(steps) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("engine_socket")
def test_killed_at_any_step_start_first_one_version_serves_at_every_moment(short_dir: Path) -> None:
    with open_gateway(short_dir, start_first=True, warm=True) as gateway:
        wrong, steps = kill_everywhere(gateway, ("upgrade", "rollback"))
    assert not wrong
    assert all(count > 4 for count in steps.values()), steps
    assert len(steps) == 2
